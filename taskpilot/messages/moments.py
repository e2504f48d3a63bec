"""The answer of `taskpilot why`: a sentence on one moment of a job, the facts that belong to it, and the next command."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from taskpilot.domain.fires import ClockEvent, ClockEventKind, Fire, Gap, Pause, ScheduleInForce
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Run, RunStatus
from taskpilot.domain.times import format_duration, utc_iso
from taskpilot.messages import times
from taskpilot.messages.reasons import OUTCOMES, reason_sentence, status_sentence
from taskpilot.messages.times import Time, local


class NoOutcome(StrEnum):
    """What is known of a moment for which the store has no outcome."""

    OPEN = "open"
    """A fire whose outcome is not recorded yet."""
    TO_COME = "to_come"
    UNRECORDED = "unrecorded"
    """A fire from before the store had the schedule."""
    NO_FIRE = "no_fire"
    NO_SCHEDULE = "no_schedule"


@dataclass(frozen=True, slots=True)
class MomentRecord:
    """What the store has about one moment of a job."""

    fire: Fire | None = None
    gap: Gap | None = None
    """The gap that contains the moment."""
    run: Run | None = None
    """The run that the fire started."""
    other_run: Run | None = None
    """The run that the reason names."""
    other_fire: Fire | None = None
    """The fire that the reason names: one that waits, catches up for this one, or replaced it."""
    pause: Pause | None = None
    """The pause that was in force at the moment."""
    clock: tuple[ClockEvent, ...] = ()
    scheduler_runs: bool = False
    """Whether a scheduler is running now."""
    last_tick: datetime | None = None
    """The last sign of life of any scheduler."""

    @property
    def reason(self) -> Reason:
        """Why the fire or the gap has its outcome."""
        found = self.fire or self.gap
        return NO_REASON if found is None else found.reason


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment of a job, and everything that is known about it."""

    job: str
    at: datetime | None
    """None where no time was given and no fire was due yet."""
    now: datetime
    zone: str
    outcome: FireOutcome | NoOutcome
    record: MomentRecord = MomentRecord()
    read_as: str = ""
    """How the given time was read, if it had no offset."""
    zone_change: str = ""
    """A change of daylight saving time near it."""
    schedule: str = ""
    """The schedule in force at it."""
    schedules: tuple[ScheduleInForce, ...] = ()
    """All schedules that the job had."""
    before: datetime | None = None
    after: datetime | None = None
    """The fire after it; `before` is the one before it."""
    paused: Pause | None = None
    """The pause in force now."""
    defined: bool = True
    """Whether the job's file can be loaded."""
    broken: str = ""
    """Why the file cannot be loaded; empty where it can, or was deleted."""
    startable_until: datetime | None = None
    """The end of the time in which the fire may be started late."""
    maybe_pruned: bool = False
    """Whether it is old enough for its record to be deleted."""
    time: Time = utc_iso
    """How the facts show an instant."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer."""

    sentence: str
    facts: Mapping[str, str]
    """By name. Empty ones are left out."""
    next: str
    """The command that shows more or solves the problem."""


_RUN_WORDS: Final = {
    RunStatus.QUEUED: "its run waits for its next attempt",
    RunStatus.RUNNING: "its run is running",
    RunStatus.WAITING: "its run waits for a person",
    RunStatus.SUCCEEDED: "its run succeeded",
    RunStatus.FAILED: "its run failed",
    RunStatus.TIMED_OUT: "its run exceeded its deadline",
    RunStatus.CANCELLED: "its run was cancelled",
    RunStatus.DENIED: "its run was denied",
    RunStatus.BUDGET_EXCEEDED: "its run was stopped by its budget",
    RunStatus.LOST: "its run was lost",
}


def explain(moment: Moment, *, time: Time = utc_iso, zone: str = "in utc") -> Explanation:
    """The answer for a moment. `time` writes the instants of the facts, and `zone` names its time zone."""
    moment = replace(moment, time=time)
    found = _explain(moment)
    when = {zone: "" if moment.at is None else time(moment.at), "time": moment.read_as}
    steps = "; ".join(times.clock_event(event, time) for event in moment.record.clock if event.kind is not ClockEventKind.ASLEEP)
    facts = {**when, **found.facts, "clock set": steps, "clock": moment.zone_change}
    return Explanation(found.sentence, {name: text for name, text in facts.items() if text}, found.next)


def _explain(moment: Moment) -> Explanation:
    match moment.outcome:
        case FireOutcome.STARTED:
            return _started(moment)
        case FireOutcome.BUFFERED:
            return _waits(moment)
        case FireOutcome():
            return _did_not_start(moment)
        case NoOutcome.OPEN | NoOutcome.TO_COME:
            return _no_outcome_yet(moment)
        case NoOutcome.UNRECORDED:
            pruned = ", or the record was deleted because of its age" if moment.maybe_pruned else ""
            cause = f"no scheduler and no command had started {moment.job} before then"
            sentence = f"There is no record of {moment.job} for {_when(moment)}: {cause}{pruned}."
            return Explanation(sentence, _around(moment), f"taskpilot runs list --job {moment.job}")
        case NoOutcome.NO_FIRE:
            verb = "is not due" if _at(moment) > moment.now else "was not due"
            return Explanation(f"{moment.job} {verb} at {_when(moment)}.", _around(moment), _nearest(moment))
        case NoOutcome.NO_SCHEDULE:
            return _no_schedule(moment)


def _started(moment: Moment) -> Explanation:
    fire, run = moment.record.fire, moment.record.run
    assert fire is not None
    if run is None:
        return Explanation(
            f"{moment.job} started for {_when(moment)}; its run was deleted.", {"run": fire.run_id or ""}, "taskpilot runs list"
        )
    late = format_duration(timedelta(seconds=max(0.0, (fire.recorded_at - fire.scheduled_for).total_seconds())))
    facts = {
        "run": run.id,
        "status": status_sentence(run.status, run.reason),
        "started": f"{moment.time(fire.recorded_at)}, {late} after its time",
        "ended": "" if run.ended_at is None else moment.time(run.ended_at),
    }
    return Explanation(f"{moment.job} started for {_when(moment)}; {_RUN_WORDS[run.status]}.", facts, f"taskpilot runs show {run.id}")


def _waits(moment: Moment) -> Explanation:
    found = moment.record
    start = found.fire.start_after if found.fire is not None else None
    later = moment.time(start) if start is not None and start > moment.now else ""
    reason = reason_sentence(found.reason, now=True) or (f"it may start at {later}" if later else "it is in the queue")
    facts = {
        "not before": later,
        "other run": _run(moment, found.other_run),
        "scheduler": "running" if found.scheduler_runs else "not running: start it with `taskpilot serve`",
        "paused": "" if moment.paused is None else times.paused(moment.paused, moment.time),
    }
    following = _why(moment, _at(moment)) if found.other_run is None else f"taskpilot runs show {found.other_run.id}"
    return Explanation(f"{moment.job} waits to start for {_when(moment)}: {reason}.", facts, following)


def _did_not_start(moment: Moment) -> Explanation:
    name, found, outcome = moment.job, moment.record, moment.outcome
    assert isinstance(outcome, FireOutcome)
    facts = {"one of": _gap(moment, found.gap), "outcome": outcome.value}
    following = f"taskpilot jobs show {name}"
    if outcome is FireOutcome.PAUSED:
        facts["pause"] = "" if found.pause is None else times.pause_end(found.pause, moment.time)
        following = f"taskpilot jobs resume {name}" if moment.paused is not None else following
    elif outcome is FireOutcome.BLOCKED_CONFIG:
        facts["now"] = moment.broken and f"it still cannot be loaded: {moment.broken}"
        following = "taskpilot jobs validate" if found.reason.code is ReasonCode.JOB_BROKEN else "taskpilot doctor"
    if found.other_run is not None:
        facts["other run"] = _run(moment, found.other_run)
        following = f"taskpilot runs show {found.other_run.id}"
    if found.other_fire is not None:
        label = "other fire" if found.reason.code is ReasonCode.FIRE_WAITING else "instead"
        facts[label] = f"{moment.time(found.other_fire.scheduled_for)}: {found.other_fire.outcome}"
        following = _why(moment, found.other_fire.scheduled_for)
    facts["asleep"] = "; ".join(times.clock_event(event, moment.time) for event in found.clock if event.kind is ClockEventKind.ASLEEP)
    facts["schedule"] = "" if found.gap is None else found.gap.schedule
    because = reason_sentence(found.reason) or f"it was {OUTCOMES[outcome]}"
    return Explanation(f"{name} did not start for {_when(moment)}: {because}.", facts, following)


def _no_outcome_yet(moment: Moment) -> Explanation:
    name, found, now = moment.job, moment.record, moment.now
    if moment.at is None:
        since = f" since {moment.time(moment.schedules[0].since)}, when it was first seen" if moment.schedules else ""
        assert moment.after is not None
        return Explanation(
            f"{name} has not been due yet{since}; it is due at {local(moment.after, moment.zone)}.", {}, f"taskpilot jobs next {name}"
        )
    when, due = _when(moment), "is due" if moment.at > now else "was due"
    if moment.paused is not None:
        return Explanation(
            f"{name} {due} at {when}, but it is {times.paused(moment.paused, moment.time)}.", {}, f"taskpilot jobs resume {name}"
        )
    if not moment.defined:
        return Explanation(
            f"{name} cannot start for {when}: its job file cannot be loaded.", {"file": moment.broken}, "taskpilot jobs validate"
        )
    if moment.at > now:
        wait = format_duration(timedelta(seconds=(moment.at - now) // timedelta(seconds=1)))
        scheduler = "running" if found.scheduler_runs else "not running: start `taskpilot serve`, or start the job by cron or by hand"
        return Explanation(f"{name} is due at {when}, in {wait}.", {"scheduler": scheduler}, f"taskpilot jobs next {name}")
    if found.scheduler_runs:
        return Explanation(f"{name} was due at {when}: the scheduler checks within 15 s.", {}, _why(moment, moment.at))
    facts = {"last scheduler": "never ran" if found.last_tick is None else f"last active at {moment.time(found.last_tick)}"}
    until = moment.startable_until
    if until is not None and now <= until:
        facts["can start"] = f"until {moment.time(until)}, the end of its catch-up window"
        sentence = f"Nothing has started {name} for {when} yet: no scheduler is running, and no command started it."
        return Explanation(sentence, facts, f"taskpilot run {name} --scheduled-for {utc_iso(moment.at)}")
    facts["recorded"] = "not yet: `taskpilot run housekeeping` or the next start of `taskpilot serve` records it as missed"
    sentence = f"Nothing started {name} for {when}: no scheduler was running, and no command started it in time."
    return Explanation(sentence, facts, f"taskpilot run {name}")


def _no_schedule(moment: Moment) -> Explanation:
    """The job never had a schedule, did not have one yet, or has none any more."""
    name, runs = moment.job, f"taskpilot runs list --job {moment.job}"
    if not moment.schedules:
        if moment.defined:
            return Explanation(f"{name} has no schedule: it runs only when a command starts it.", {}, runs)
        return Explanation(f"{name} has no recorded schedule: {moment.broken or 'no file defines the job any more'}.", {}, runs)
    first, last, at = moment.schedules[0], moment.schedules[-1], _at(moment)
    facts = {"after": _fire(moment, moment.after), "before": _fire(moment, moment.before)}
    if at <= first.since:
        return Explanation(
            f"{name} had no schedule at {_when(moment)}: the job was first seen at {moment.time(first.since)}.", facts, _nearest(moment)
        )
    ended = "was removed" if moment.defined or moment.broken else "ended when the job was deleted"
    until = f" at {moment.time(last.until)}" if last.until else ""
    verb = "has" if at >= moment.now else "had"
    return Explanation(f"{name} {verb} no schedule at {_when(moment)}: its schedule {ended}{until}.", facts, _nearest(moment))


def _at(moment: Moment) -> datetime:
    return moment.now if moment.at is None else moment.at


def _when(moment: Moment) -> str:
    return local(_at(moment), moment.zone)


def _around(moment: Moment) -> dict[str, str]:
    return {"schedule": moment.schedule, "before": _fire(moment, moment.before), "after": _fire(moment, moment.after)}


def _fire(moment: Moment, fire: datetime | None) -> str:
    return "" if fire is None else f"{moment.time(fire)} = {local(fire, moment.zone)}"


def _run(moment: Moment, run: Run | None) -> str:
    if run is None:
        return ""
    until = run.reason.facts.get("expires_at") if run.status is RunStatus.WAITING else None
    denied = f"; without an answer it is denied at {moment.time(datetime.fromisoformat(str(until)))}" if until else ""
    return f"{run.id}, {run.status}" + ("" if run.ended_at is None else f", ended {moment.time(run.ended_at)}") + denied


def _gap(moment: Moment, gap: Gap | None) -> str:
    if gap is None or gap.count == 1:
        return ""
    return f"{gap.count:,} fires from {moment.time(gap.first)} to {moment.time(gap.last)} with this outcome"


def _why(moment: Moment, fire: datetime) -> str:
    return f"taskpilot why {moment.job} --at {utc_iso(fire)}"


def _nearest(moment: Moment) -> str:
    near = moment.before or moment.after
    return f"taskpilot jobs show {moment.job}" if near is None else _why(moment, near)
