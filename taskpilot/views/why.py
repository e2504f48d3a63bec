"""Finds why a job did or did not run at a time."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from taskpilot.deployment import Deployment
from taskpilot.domain.fires import PUNCTUAL
from taskpilot.domain.runs import FireOutcome
from taskpilot.messages.moments import Moment, MomentRecord, NoOutcome, explain
from taskpilot.messages.shapes import iso, reason_json
from taskpilot.schedules.schedule import catch_up_window
from taskpilot.store.creation import is_missing
from taskpilot.store.database import Transaction
from taskpilot.store.pruning import YOUNGEST
from taskpilot.views.fire_record import JobRecord, names, read_job, read_moment, readable
from taskpilot.views.wall_clock import asked_moment, clock_change


def why(deployment: Deployment, job: str, *, at: str | None = None) -> Moment:
    """The outcome of a job's fire at a time, by default of the latest one that was due. Creates no store.

    `at` is ISO text; without an offset, it is local time in the job's zone. Raises UsageError, ConfigurationError, StoreError or StoreBusy.
    """
    if "store" not in vars(deployment) and is_missing(deployment.settings.state_dir):
        return _why(deployment, None, job, at)
    with deployment.store.read() as connection:
        return _why(deployment, connection, job, at)


def why_json(moment: Moment) -> dict[str, Any]:
    """The answer as a JSON value; times in UTC."""
    answer, found = explain(moment), moment.record
    gap, other = found.gap, found.other_fire
    is_fire = moment.outcome not in (NoOutcome.NO_FIRE, NoOutcome.NO_SCHEDULE)
    return {
        "job": moment.job,
        "outcome": moment.outcome.value,
        "answer": answer.sentence,
        "fire": iso(moment.at) if is_fire else None,
        "zone": moment.zone,
        **reason_json(found.reason),
        "run": None if found.run is None else {"run_id": found.run.id, "status": found.run.status.value},
        "other_run": None if found.other_run is None else {"run_id": found.other_run.id, "status": found.other_run.status.value},
        "other_fire": None if other is None else {"scheduled_for": iso(other.scheduled_for), "outcome": other.outcome.value},
        "gap": None if gap is None else {"from": iso(gap.first), "to": iso(gap.last), "count": gap.count},
        "before": iso(moment.before),
        "after": iso(moment.after),
        "facts": dict(answer.facts),
        "next": answer.next,
    }


def _why(deployment: Deployment, connection: Transaction | None, job: str, at: str | None) -> Moment:
    now = deployment.now()
    known = read_job(deployment, connection, job, now)
    moment = Moment(
        job=job,
        at=None,
        now=now,
        zone=known.zone,
        outcome=NoOutcome.TO_COME,
        schedules=known.schedules,
        paused=known.paused,
        defined=known.defined,
        broken=known.broken,
    )
    if at is not None:
        asked, read_as = asked_moment(at, known.zone, now)
    else:
        latest = _latest(known, now)
        if latest is None:
            after = known.after(now)
            if after is None:
                return replace(moment, outcome=NoOutcome.NO_SCHEDULE, before=known.before(now))
            return replace(moment, after=after)
        asked, read_as = latest, ""
    found = MomentRecord() if connection is None else read_moment(connection, job, asked, deployment.boot())
    outcome, schedule = _outcome(known, found, asked, now)
    return replace(
        moment,
        at=asked,
        outcome=outcome,
        record=found,
        read_as=read_as,
        zone_change="" if known.zone == "UTC" else clock_change(asked, known.zone),
        schedule=schedule,
        before=known.before(asked),
        after=known.after(asked),
        startable_until=_startable_until(known, asked, now),
        maybe_pruned=now - asked > YOUNGEST,
    )


def _outcome(known: JobRecord, found: MomentRecord, moment: datetime, now: datetime) -> tuple[FireOutcome | NoOutcome, str]:
    """The outcome of the moment; where the store has none, also the schedule in force at it."""
    if found.fire is not None:
        return found.fire.outcome, ""
    if found.gap is not None:
        return found.gap.outcome, ""
    force = known.schedule_at(moment)
    planned = known.spec.schedule if known.spec is not None else None
    if moment > now:
        schedule = planned if known.spec is not None or force is None else readable(force)
    else:
        schedule = planned if not known.schedules else None if force is None else readable(force)
    if schedule is None:
        return NoOutcome.NO_SCHEDULE, ""
    if not names(schedule, moment):
        return NoOutcome.NO_FIRE, schedule.describe()
    if moment > now:
        return NoOutcome.TO_COME, ""
    if force is not None and force.cursor is not None and force.cursor < moment:
        return NoOutcome.OPEN, ""
    return NoOutcome.UNRECORDED, schedule.describe()


def _startable_until(known: JobRecord, moment: datetime, now: datetime) -> datetime | None:
    if known.spec is None or known.spec.schedule is None:
        return None
    return moment + max(PUNCTUAL, catch_up_window(known.spec.schedule, now, chosen=known.spec.catch_up_window))


def _latest(known: JobRecord, now: datetime) -> datetime | None:
    """The latest fire that was due, by the schedules or by a row of the store."""
    row = None if known.latest is None else known.latest.scheduled_for
    return max((fire for fire in (known.before(now), row) if fire is not None), default=None)
