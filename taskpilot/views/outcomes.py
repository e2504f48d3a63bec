"""The outcome of a fire in a sentence, with the facts and the next command that belong to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.fires import PUNCTUAL, ClockEvent, ClockEventKind, Fire, Gap, Pause
from taskpilot.domain.runs import FireOutcome, Run, RunStatus
from taskpilot.domain.times import format_duration
from taskpilot.domain.times import utc_iso as utc
from taskpilot.schedules.schedule import catch_up_window
from taskpilot.views.fire_record import JobRecord, MomentRecord
from taskpilot.views.wall_clock import local


@dataclass(frozen=True, slots=True)
class Told:
    """What is said."""

    sentence: str
    facts: Mapping[str, str]
    """Those that are empty are left out."""
    next: str


_CAME_TO: Final = {
    RunStatus.QUEUED: "its run waits for its next attempt",
    RunStatus.RUNNING: "its run goes on",
    RunStatus.WAITING: "its run waits for a person",
    RunStatus.SUCCEEDED: "its run succeeded",
    RunStatus.FAILED: "its run failed",
    RunStatus.TIMED_OUT: "its run passed its deadline",
    RunStatus.CANCELLED: "its run was cancelled",
    RunStatus.DENIED: "its run was denied",
    RunStatus.BUDGET_EXCEEDED: "its run was stopped by its budget",
    RunStatus.LOST: "its run was lost",
}
_CLOCK: Final = {
    ClockEventKind.ASLEEP: "no scheduler was awake from {} to {}",
    ClockEventKind.FORWARD: "the clock was set forward from {} to {}",
    ClockEventKind.BACKWARD: "the clock was set back from {} to {}",
}


def tell_fire(fire: Fire, known: JobRecord, found: MomentRecord, now: datetime) -> Told:
    """A fire that has a row."""
    when = local(fire.scheduled_for, known.zone)
    if fire.outcome is FireOutcome.STARTED:
        return _started(fire, found.run, when)
    if fire.outcome is FireOutcome.BUFFERED:
        return _waits(fire, known, found, when, now)
    return _not_started(known, found, fire.outcome, fire.reason, when)


def tell_gap(gap: Gap, known: JobRecord, found: MomentRecord, moment: datetime) -> Told:
    """A fire that is one of many with one outcome."""
    told = _not_started(known, found, gap.outcome, gap.reason, local(moment, known.zone))
    many = f"{gap.count:,} fires from {utc(gap.first)} to {utc(gap.last)} with this outcome" if gap.count > 1 else ""
    return Told(told.sentence, {"one of": many, **told.facts, "schedule": gap.schedule}, told.next)


def tell_open(known: JobRecord, found: MomentRecord, moment: datetime, now: datetime) -> Told:
    """A fire without an outcome: it is to come, or nobody has accounted for it yet."""
    when, name = local(moment, known.zone), known.name
    if known.paused is not None:
        verb = "is due" if moment > now else "was due"
        return Told(f"{name} {verb} at {when}, but it is {known.paused}.", {}, f"taskpilot jobs resume {name}")
    if known.spec is None:
        return Told(f"{name} cannot start for {when}: its job file cannot be loaded.", {"file": known.broken}, "taskpilot jobs validate")
    if moment > now:
        wait = format_duration(timedelta(seconds=(moment - now) // timedelta(seconds=1)))
        scheduler = "awake" if found.awake else "none is awake: cron or a person has to start it, or `taskpilot serve`"
        return Told(f"{name} is due at {when}, in {wait}.", {"scheduler": scheduler}, f"taskpilot jobs next {name}")
    if found.awake:
        return Told(f"{name} is due since {when}: the scheduler looks at it within 15 s.", {}, f"taskpilot why {name} --at {utc(moment)}")
    facts = {"last awake": "no scheduler ever was" if found.last_tick is None else utc(found.last_tick)}
    assert known.spec.schedule is not None
    until = moment + max(PUNCTUAL, catch_up_window(known.spec.schedule, now, chosen=known.spec.catch_up_window))
    if now <= until:
        facts["can start"] = f"until {utc(until)}, when its catch-up window has passed"
        sentence = f"Nothing has started {name} for {when} yet: no scheduler is awake, and no command claimed it."
        return Told(sentence, facts, f"taskpilot run {name} --scheduled-for {utc(moment)}")
    facts["recorded"] = "not yet: housekeeping records what was missed, and so does the next start of a server"
    sentence = f"Nothing started {name} for {when}: no scheduler was awake, and no command claimed it in time."
    return Told(sentence, facts, f"taskpilot run {name}")


def _started(fire: Fire, run: Run | None, when: str) -> Told:
    if run is None:
        return Told(f"{fire.job} started for {when}; its run is not kept any more.", {"run": fire.run_id or ""}, "taskpilot runs list")
    late = format_duration(timedelta(seconds=max(0.0, (fire.recorded_at - fire.scheduled_for).total_seconds())))
    facts = {
        "run": run.id,
        "status": run.status.value + (f": {run.detail or run.reason.value}" if run.detail or run.reason else ""),
        "started": f"{utc(fire.recorded_at)}, {late} after its time",
        "ended": "" if run.ended_at is None else utc(run.ended_at),
    }
    return Told(f"{fire.job} started for {when}; {_CAME_TO[run.status]}.", facts, f"taskpilot runs show {run.id}")


def _waits(fire: Fire, known: JobRecord, found: MomentRecord, when: str, now: datetime) -> Told:
    reason = fire.reason.removeprefix("it waits: ")
    if not reason and fire.start_after is not None and fire.start_after > now:
        reason = f"it may start at {utc(fire.start_after)}"
    facts = {
        "not before": utc(fire.start_after) if fire.start_after is not None and fire.start_after > now else "",
        "other run": _run_words(found.other),
        "scheduler": "awake" if found.awake else "none is awake: what waits starts when `taskpilot serve` does",
        "paused": "" if known.paused is None else str(known.paused),
    }
    following = (
        f"taskpilot runs show {found.other.id}" if found.other is not None else f"taskpilot why {fire.job} --at {utc(fire.scheduled_for)}"
    )
    return Told(f"{fire.job} waits to start for {when}: {reason or 'it stands in the queue'}.", facts, following)


def _not_started(known: JobRecord, found: MomentRecord, outcome: FireOutcome, reason: str, when: str) -> Told:
    name, because = known.name, reason.removeprefix("nothing started it: ") or f"it was {outcome}"
    facts: dict[str, str] = {"outcome": outcome.value}
    following = f"taskpilot jobs show {name}"
    if outcome is FireOutcome.PAUSED:
        because = f"it was {reason}" if reason.startswith("paused") else because
        facts["pause"] = "" if found.pause is None else _pause_words(found.pause)
        following = f"taskpilot jobs resume {name}" if known.paused is not None else following
    elif outcome is FireOutcome.SKIPPED_OVERLAP:
        because = because.replace(" is active", " was active")
        facts["other run"] = _run_words(found.other)
        following = f"taskpilot runs show {found.other.id}" if found.other is not None else following
    elif outcome is FireOutcome.BLOCKED_CONFIG:
        because, facts["now"] = f"its job file could not be loaded: {reason}", known.broken and f"it still cannot: {known.broken}"
        following = "taskpilot jobs validate"
    if found.successor is not None:
        facts["instead"] = f"{utc(found.successor.scheduled_for)}: {found.successor.outcome}"
        following = f"taskpilot why {name} --at {utc(found.successor.scheduled_for)}"
    facts["asleep"] = "; ".join(_clock_words(event) for event in found.clock)
    return Told(f"{name} did not start for {when}: {because}.", facts, following)


def _run_words(run: Run | None) -> str:
    if run is None:
        return ""
    return f"{run.id}, {run.status}" + ("" if run.ended_at is None else f", ended {utc(run.ended_at)}")


def _pause_words(pause: Pause) -> str:
    if pause.resumed_at is None:
        return "still in force"
    note = f": {pause.resume_note}" if pause.resume_note else ""
    return f"ended {utc(pause.resumed_at)} by {pause.resumed_by}{note}"


def _clock_words(event: ClockEvent) -> str:
    return _CLOCK[event.kind].format(utc(event.start), utc(event.end))
