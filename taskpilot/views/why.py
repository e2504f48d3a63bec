"""The one recorded reason that a fire did or did not happen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from taskpilot.deployment import Deployment
from taskpilot.domain.times import utc_iso as utc
from taskpilot.store.database import Transaction
from taskpilot.store.pruning import YOUNGEST
from taskpilot.views.fire_record import JobRecord, MomentRecord, names, read_job, read_moment, readable
from taskpilot.views.outcomes import Told, tell_fire, tell_gap, tell_open
from taskpilot.views.shapes import iso
from taskpilot.views.wall_clock import asked_moment, clock_change, local


class NoOutcome(StrEnum):
    """How a moment stands of which the record has no outcome."""

    OPEN = "open"
    """A fire that nobody has accounted for yet."""
    TO_COME = "to_come"
    UNRECORDED = "unrecorded"
    """A fire of before the record knew the schedule."""
    NO_FIRE = "no_fire"
    NO_SCHEDULE = "no_schedule"


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is to say of one moment of a job."""

    job: str
    outcome: str
    """An outcome of a fire, or how a moment without one stands."""
    sentence: str
    """The answer."""
    facts: Mapping[str, str]
    """By name, what belongs to it; times in UTC."""
    next: str
    """The command that shows more, or helps."""
    fire: datetime | None
    """The fire that it is about; None where the moment was none."""
    zone: str
    record: MomentRecord
    before: datetime | None
    after: datetime | None


def why(deployment: Deployment, job: str, *, at: str | None = None) -> Answer:
    """What became of a job's fire at a moment, or of its latest one that was due; a store is read where there is one, never made.

    `at` is ISO text; without an offset, the wall clock of the job's zone. Raises UsageError, ConfigurationError, StoreError or StoreBusy.
    """
    if deployment.store_is_missing:
        return _why(deployment, None, job, at)
    with deployment.store.read() as connection:
        return _why(deployment, connection, job, at)


def why_json(answer: Answer) -> dict[str, Any]:
    """The answer as a JSON value; times in UTC."""
    found = answer.record
    reason = found.fire.reason if found.fire is not None else found.gap.reason if found.gap is not None else ""
    gap = found.gap
    return {
        "job": answer.job,
        "outcome": answer.outcome,
        "answer": answer.sentence,
        "fire": iso(answer.fire),
        "zone": answer.zone,
        "reason": reason,
        "run": None if found.run is None else {"run_id": found.run.id, "status": found.run.status.value},
        "gap": None if gap is None else {"from": iso(gap.first), "to": iso(gap.last), "count": gap.count},
        "before": iso(answer.before),
        "after": iso(answer.after),
        "facts": dict(answer.facts),
        "next": answer.next,
    }


def _why(deployment: Deployment, connection: Transaction | None, job: str, at: str | None) -> Answer:
    now = deployment.now()
    known = read_job(deployment, connection, job, now)
    zone, note = known.zone, ""
    if at is not None:
        moment, note = asked_moment(at, zone)
    else:
        latest = _latest(known, now)
        if latest is None:
            return _nothing_due(known, now)
        moment = latest
    found = MomentRecord() if connection is None else read_moment(connection, job, moment, now)
    outcome, told, is_fire = _told(known, found, moment, now)
    facts = {"in utc": utc(moment), "time": note, **told.facts, "clock": clock_change(moment, zone) if zone != "UTC" else ""}
    return Answer(
        job=job,
        outcome=outcome,
        sentence=told.sentence,
        facts={name: text for name, text in facts.items() if text},
        next=told.next,
        fire=moment if is_fire else None,
        zone=zone,
        record=found,
        before=known.before(moment),
        after=known.after(moment),
    )


def _told(known: JobRecord, found: MomentRecord, moment: datetime, now: datetime) -> tuple[str, Told, bool]:
    """The outcome, what is said of it, and whether the moment is a fire."""
    if found.fire is not None:
        return found.fire.outcome.value, tell_fire(found.fire, known, found, now), True
    if found.gap is not None:
        return found.gap.outcome.value, tell_gap(found.gap, known, found, moment), True
    force = known.schedule_at(moment)
    planned = known.spec.schedule if known.spec is not None else None
    if moment > now:
        schedule = planned if known.spec is not None or force is None else readable(force)
    else:
        schedule = planned if not known.schedules else None if force is None else readable(force)
    when = local(moment, known.zone)
    if schedule is None:
        return NoOutcome.NO_SCHEDULE, _without_schedule(known, moment, now), False
    if not names(schedule, moment):
        verb = "is not due" if moment > now else "was not due"
        return (
            NoOutcome.NO_FIRE,
            Told(f"{known.name} {verb} at {when}.", _around(known, schedule.describe(), moment), _look(known, moment)),
            False,
        )
    if moment > now:
        return NoOutcome.TO_COME, tell_open(known, found, moment, now), True
    if force is not None and force.cursor is not None and force.cursor < moment:
        return NoOutcome.OPEN, tell_open(known, found, moment, now), True
    pruned = ", or its record was pruned" if now - moment > YOUNGEST else ""
    sentence = f"Nothing is recorded of {known.name} for {when}: no server and no command had claimed a fire of it by then{pruned}."
    return (
        NoOutcome.UNRECORDED,
        Told(sentence, _around(known, schedule.describe(), moment), f"taskpilot runs list --job {known.name}"),
        True,
    )


def _latest(known: JobRecord, now: datetime) -> datetime | None:
    """The latest fire that was due: by the schedules, or by a row of the record."""
    row = None if known.latest is None else known.latest.scheduled_for
    return max((fire for fire in (known.before(now), row) if fire is not None), default=None)


def _nothing_due(known: JobRecord, now: datetime) -> Answer:
    after = known.after(now)
    if after is None:
        outcome, told = NoOutcome.NO_SCHEDULE, _without_schedule(known, now, now)
    else:
        since = f" since {utc(known.schedules[0].since)}, when it was seen first" if known.schedules else ""
        sentence = f"{known.name} was not due yet{since}: it is due at {local(after, known.zone)}."
        outcome, told = NoOutcome.TO_COME, Told(sentence, {}, f"taskpilot jobs next {known.name}")
    return Answer(known.name, outcome, told.sentence, told.facts, told.next, None, known.zone, MomentRecord(), None, after)


def _without_schedule(known: JobRecord, moment: datetime, now: datetime) -> Told:
    """No schedule was in force: it never had one, or not yet, or not any more."""
    when = local(moment, known.zone)
    first, last = (known.schedules[0], known.schedules[-1]) if known.schedules else (None, None)
    facts = {"after": _named(known, known.after(moment)), "before": _named(known, known.before(moment))}
    if first is not None and moment <= first.since:
        return Told(f"{known.name} had no schedule at {when}: it was seen first at {utc(first.since)}.", facts, _look(known, moment))
    if last is not None:
        ended = "was taken away" if known.spec is not None or known.broken else "ended when the job was removed"
        until = f" at {utc(last.until)}" if last.until else ""
        verb = "has" if moment >= now else "had"
        return Told(f"{known.name} {verb} no schedule at {when}: its schedule {ended}{until}.", facts, _look(known, moment))
    sentence = f"{known.name} has no schedule: it starts when it is asked to."
    if known.spec is None:
        sentence = f"{known.name} has no schedule in the record: {known.broken or 'no file defines it any more'}."
    return Told(sentence, {}, f"taskpilot runs list --job {known.name}")


def _around(known: JobRecord, schedule: str, moment: datetime) -> dict[str, str]:
    return {
        "schedule": schedule,
        "before": _named(known, known.before(moment)),
        "after": _named(known, known.after(moment)),
    }


def _named(known: JobRecord, fire: datetime | None) -> str:
    return "" if fire is None else f"{utc(fire)} = {local(fire, known.zone)}"


def _look(known: JobRecord, moment: datetime) -> str:
    near = known.before(moment) or known.after(moment)
    return f"taskpilot jobs show {known.name}" if near is None else f"taskpilot why {known.name} --at {utc(near)}"
