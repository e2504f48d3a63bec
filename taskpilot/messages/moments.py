"""What became of one moment of a job: a sentence, the facts that belong to it and the next command. What `why` says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from taskpilot.domain.fires import ClockEvent, Fire, Gap, Pause, ScheduleInForce
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Run, RunStatus
from taskpilot.domain.times import format_duration, utc_text
from taskpilot.messages import times
from taskpilot.messages.reasons import OUTCOMES, reason_sentence, status_sentence
from taskpilot.messages.times import local


class NoOutcome(StrEnum):
    """How a moment stands of which the record has no outcome."""

    OPEN = "open"
    """A fire whose outcome is not recorded yet."""
    TO_COME = "to_come"
    UNRECORDED = "unrecorded"
    """A fire of before the record knew the schedule."""
    NO_FIRE = "no_fire"
    NO_SCHEDULE = "no_schedule"


@dataclass(frozen=True, slots=True)
class MomentRecord:
    """What the store has of one moment of a job."""

    fire: Fire | None = None
    gap: Gap | None = None
    """The gap of which the moment is one fire."""
    run: Run | None = None
    """The run that the fire started."""
    other_run: Run | None = None
    """The run that the reason names."""
    other_fire: Fire | None = None
    """The fire that the reason names: it waits, catches up for this one, or took its place."""
    pause: Pause | None = None
    """The pause that was in force at the moment."""
    clock: tuple[ClockEvent, ...] = ()
    scheduler_runs: bool = False
    """Now."""
    last_tick: datetime | None = None
    """When a scheduler was seen last."""

    @property
    def reason(self) -> Reason:
        """Why the fire, or the gap that it is in, has its outcome."""
        found = self.fire or self.gap
        return NO_REASON if found is None else found.reason


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment of a job, and what is known of it."""

    job: str
    at: datetime | None
    """None where no fire was named and none was due yet."""
    now: datetime
    zone: str
    outcome: FireOutcome | NoOutcome
    record: MomentRecord = MomentRecord()
    read_as: str = ""
    """How the moment's text was read, where that is not plain."""
    zone_change: str = ""
    """What the zone's clock does around it."""
    schedule: str = ""
    """The schedule that it was judged by."""
    schedules: tuple[ScheduleInForce, ...] = ()
    """All that the record has of the job."""
    before: datetime | None = None
    after: datetime | None = None
    """The fires around it."""
    paused: Pause | None = None
    """The pause in force now."""
    defined: bool = True
    """The job's file can be loaded."""
    broken: str = ""
    """Why it cannot; empty where it can, or is gone."""
    startable_until: datetime | None = None
    """Of an open fire: until when a command or a scheduler may still start it."""
    maybe_pruned: bool = False
    """It is so old that its record may have been deleted."""


@dataclass(frozen=True, slots=True)
class Told:
    """The answer."""

    sentence: str
    facts: Mapping[str, str]
    """By name, what belongs to it; times in UTC. Those that are empty are left out."""
    next: str
    """The command that shows more, or helps."""


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


def tell(moment: Moment) -> Told:
    """What there is to say of a moment."""
    told = _tell(moment)
    when = {"in utc": "" if moment.at is None else utc_text(moment.at), "time": moment.read_as}
    facts = {**when, **told.facts, "clock": moment.zone_change}
    return Told(told.sentence, {name: text for name, text in facts.items() if text}, told.next)


def _tell(moment: Moment) -> Told:
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
            pruned = ", or its record was deleted for its age" if moment.maybe_pruned else ""
            by_then = f"no scheduler and no command had started {moment.job} by then"
            sentence = f"Nothing is recorded of {moment.job} for {_when(moment)}: {by_then}{pruned}."
            return Told(sentence, _around(moment), f"taskpilot runs list --job {moment.job}")
        case NoOutcome.NO_FIRE:
            verb = "is not due" if _at(moment) > moment.now else "was not due"
            return Told(f"{moment.job} {verb} at {_when(moment)}.", _around(moment), _look(moment))
        case NoOutcome.NO_SCHEDULE:
            return _no_schedule(moment)


def _started(moment: Moment) -> Told:
    fire, run = moment.record.fire, moment.record.run
    assert fire is not None
    if run is None:
        return Told(f"{moment.job} started for {_when(moment)}; its run was deleted.", {"run": fire.run_id or ""}, "taskpilot runs list")
    late = format_duration(timedelta(seconds=max(0.0, (fire.recorded_at - fire.scheduled_for).total_seconds())))
    facts = {
        "run": run.id,
        "status": status_sentence(run.status, run.reason),
        "started": f"{utc_text(fire.recorded_at)}, {late} after its time",
        "ended": "" if run.ended_at is None else utc_text(run.ended_at),
    }
    return Told(f"{moment.job} started for {_when(moment)}; {_RUN_WORDS[run.status]}.", facts, f"taskpilot runs show {run.id}")


def _waits(moment: Moment) -> Told:
    found = moment.record
    start = found.fire.start_after if found.fire is not None else None
    later = utc_text(start) if start is not None and start > moment.now else ""
    reason = reason_sentence(found.reason, now=True) or (f"it may start at {later}" if later else "it is in the queue")
    facts = {
        "not before": later,
        "other run": _run(found.other_run),
        "scheduler": "running" if found.scheduler_runs else "not running: start it with `taskpilot serve`",
        "paused": "" if moment.paused is None else times.paused(moment.paused),
    }
    following = _why(moment, _at(moment)) if found.other_run is None else f"taskpilot runs show {found.other_run.id}"
    return Told(f"{moment.job} waits to start for {_when(moment)}: {reason}.", facts, following)


def _did_not_start(moment: Moment) -> Told:
    name, found, outcome = moment.job, moment.record, moment.outcome
    assert isinstance(outcome, FireOutcome)
    facts = {"one of": _gap(found.gap), "outcome": outcome.value}
    following = f"taskpilot jobs show {name}"
    if outcome is FireOutcome.PAUSED:
        facts["pause"] = "" if found.pause is None else times.pause_end(found.pause)
        following = f"taskpilot jobs resume {name}" if moment.paused is not None else following
    elif outcome is FireOutcome.BLOCKED_CONFIG:
        facts["now"] = moment.broken and f"it still cannot be loaded: {moment.broken}"
        following = "taskpilot jobs validate" if found.reason.code is ReasonCode.JOB_BROKEN else "taskpilot doctor"
    if found.other_run is not None:
        facts["other run"] = _run(found.other_run)
        following = f"taskpilot runs show {found.other_run.id}"
    if found.other_fire is not None:
        label = "other fire" if found.reason.code is ReasonCode.FIRE_WAITING else "instead"
        facts[label] = f"{utc_text(found.other_fire.scheduled_for)}: {found.other_fire.outcome}"
        following = _why(moment, found.other_fire.scheduled_for)
    facts["asleep"] = "; ".join(times.clock_event(event) for event in found.clock)
    facts["schedule"] = "" if found.gap is None else found.gap.schedule
    because = reason_sentence(found.reason) or f"it was {OUTCOMES[outcome]}"
    return Told(f"{name} did not start for {_when(moment)}: {because}.", facts, following)


def _no_outcome_yet(moment: Moment) -> Told:
    name, found, now = moment.job, moment.record, moment.now
    if moment.at is None:
        since = f" since {utc_text(moment.schedules[0].since)}, when it was seen first" if moment.schedules else ""
        assert moment.after is not None
        return Told(f"{name} was not due yet{since}: it is due at {local(moment.after, moment.zone)}.", {}, f"taskpilot jobs next {name}")
    when, due = _when(moment), "is due" if moment.at > now else "was due"
    if moment.paused is not None:
        return Told(f"{name} {due} at {when}, but it is {times.paused(moment.paused)}.", {}, f"taskpilot jobs resume {name}")
    if not moment.defined:
        return Told(f"{name} cannot start for {when}: its job file cannot be loaded.", {"file": moment.broken}, "taskpilot jobs validate")
    if moment.at > now:
        wait = format_duration(timedelta(seconds=(moment.at - now) // timedelta(seconds=1)))
        scheduler = "running" if found.scheduler_runs else "not running: start `taskpilot serve`, or let cron or a person start the job"
        return Told(f"{name} is due at {when}, in {wait}.", {"scheduler": scheduler}, f"taskpilot jobs next {name}")
    if found.scheduler_runs:
        return Told(f"{name} is due since {when}: the scheduler checks within 15 s.", {}, _why(moment, moment.at))
    facts = {"last scheduler": "none ever ran" if found.last_tick is None else f"seen at {utc_text(found.last_tick)}"}
    until = moment.startable_until
    if until is not None and now <= until:
        facts["can start"] = f"until {utc_text(until)}, when its catch-up window has passed"
        sentence = f"Nothing has started {name} for {when} yet: no scheduler is running, and no command claimed it."
        return Told(sentence, facts, f"taskpilot run {name} --scheduled-for {utc_text(moment.at)}")
    facts["recorded"] = "not yet: housekeeping records what was missed, and so does the next start of a server"
    sentence = f"Nothing started {name} for {when}: no scheduler was running, and no command claimed it in time."
    return Told(sentence, facts, f"taskpilot run {name}")


def _no_schedule(moment: Moment) -> Told:
    """It never had one, or not yet, or not any more."""
    name, runs = moment.job, f"taskpilot runs list --job {moment.job}"
    if not moment.schedules:
        if moment.defined:
            return Told(f"{name} has no schedule: it starts when it is asked to.", {}, runs)
        return Told(f"{name} has no schedule in the record: {moment.broken or 'no file defines it any more'}.", {}, runs)
    first, last, at = moment.schedules[0], moment.schedules[-1], _at(moment)
    facts = {"after": _fire(moment, moment.after), "before": _fire(moment, moment.before)}
    if at <= first.since:
        return Told(f"{name} had no schedule at {_when(moment)}: it was seen first at {utc_text(first.since)}.", facts, _look(moment))
    ended = "was taken away" if moment.defined or moment.broken else "ended when the job was removed"
    until = f" at {utc_text(last.until)}" if last.until else ""
    verb = "has" if at >= moment.now else "had"
    return Told(f"{name} {verb} no schedule at {_when(moment)}: its schedule {ended}{until}.", facts, _look(moment))


def _at(moment: Moment) -> datetime:
    return moment.now if moment.at is None else moment.at


def _when(moment: Moment) -> str:
    return local(_at(moment), moment.zone)


def _around(moment: Moment) -> dict[str, str]:
    return {"schedule": moment.schedule, "before": _fire(moment, moment.before), "after": _fire(moment, moment.after)}


def _fire(moment: Moment, fire: datetime | None) -> str:
    return "" if fire is None else f"{utc_text(fire)} = {local(fire, moment.zone)}"


def _run(run: Run | None) -> str:
    if run is None:
        return ""
    return f"{run.id}, {run.status}" + ("" if run.ended_at is None else f", ended {utc_text(run.ended_at)}")


def _gap(gap: Gap | None) -> str:
    if gap is None or gap.count == 1:
        return ""
    return f"{gap.count:,} fires from {utc_text(gap.first)} to {utc_text(gap.last)} with this outcome"


def _why(moment: Moment, fire: datetime) -> str:
    return f"taskpilot why {moment.job} --at {utc_text(fire)}"


def _look(moment: Moment) -> str:
    near = moment.before or moment.after
    return f"taskpilot jobs show {moment.job}" if near is None else _why(moment, near)
