"""Queries over schedules with their cursors, and pauses."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from taskpilot.domain.events import EventKind
from taskpilot.domain.fires import Pause, ScheduleInForce
from taskpilot.domain.ids import new_id
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.text import storable
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.events import record_event
from taskpilot.store.tables import among, past_schedules, pauses, schedules


def schedules_in_force(connection: Connection, jobs: Collection[str] | None = None) -> dict[str, ScheduleInForce]:
    """The recorded schedule of each job, with its cursor; of all jobs where none are named."""
    wanted = select(schedules.c.job, schedules.c.schedule, schedules.c.since, schedules.c.cursor)
    if jobs is not None:
        wanted = wanted.where(among(schedules.c.job, jobs))
    # The jobs of one claim share their cursor, and often their first day.
    moment = cache(from_micros)
    return {
        job: ScheduleInForce(job, schedule, moment(since), None, moment(cursor))
        for job, schedule, since, cursor in connection.execute(wanted).all()
    }


def unmoved(connection: Connection, seen: Mapping[str, ScheduleInForce]) -> frozenset[str]:
    """Of these schedules, those that are unchanged in the store, with the same cursor."""
    wanted = select(schedules.c.job, schedules.c.schedule, schedules.c.cursor).where(among(schedules.c.job, seen))
    micros = cache(to_micros)
    return frozenset(
        job
        for job, schedule, cursor in connection.execute(wanted)
        if (one := seen[job]).schedule == schedule and one.cursor is not None and micros(one.cursor) == cursor
    )


def schedule_at(connection: Connection, job: str, moment: datetime) -> ScheduleInForce | None:
    """The schedule that was in force at a moment."""
    micros = to_micros(moment)
    row = connection.execute(select(schedules).where(schedules.c.job == job)).first()
    if row is not None and row.since <= micros:
        return ScheduleInForce(row.job, row.schedule, from_micros(row.since), cursor=from_micros(row.cursor))
    past = select(past_schedules).where(past_schedules.c.job == job, past_schedules.c.since <= micros, past_schedules.c.until > micros)
    row = connection.execute(past.order_by(past_schedules.c.since.desc()).limit(1)).first()
    return None if row is None else ScheduleInForce(row.job, row.schedule, from_micros(row.since), from_micros(row.until))


def schedules_of(connection: Connection, job: str) -> list[ScheduleInForce]:
    """Every recorded schedule of a job, the oldest first."""
    past = connection.execute(select(past_schedules).where(past_schedules.c.job == job).order_by(past_schedules.c.since))
    found = [ScheduleInForce(row.job, row.schedule, from_micros(row.since), from_micros(row.until)) for row in past]
    return [*found, *schedules_in_force(connection, [job]).values()]


def begin_schedules(connection: Connection, jobs: dict[str, str], now: datetime) -> None:
    """Records schedules of jobs that have none; nothing before `now` is due."""
    if jobs:
        at = to_micros(now)
        rows = [{"job": job, "schedule": schedule, "since": at, "cursor": at} for job, schedule in jobs.items()]
        connection.execute(insert(schedules), rows)


def end_schedule(connection: Connection, old: ScheduleInForce, *, until: datetime) -> None:
    """Moves a job's schedule to the past; its job has none after it."""
    connection.execute(delete(schedules).where(schedules.c.job == old.job))
    if until > old.since:
        row = {"job": old.job, "since": to_micros(old.since), "until": to_micros(until), "schedule": old.schedule}
        connection.execute(insert(past_schedules).prefix_with("OR REPLACE").values(row))


def move_cursors(connection: Connection, jobs: Collection[str], cursor: datetime) -> None:
    """Records that every fire of these jobs at or before an instant has its outcome."""
    if jobs:
        connection.execute(update(schedules).where(among(schedules.c.job, jobs)).values(cursor=to_micros(cursor)))


def pauses_in_force(connection: Connection) -> dict[str, Pause]:
    """The jobs that are paused now."""
    rows = connection.execute(select(pauses).where(pauses.c.resumed_at.is_(None)))
    return {row.job: _pause_of(row) for row in rows}


def pause_at(connection: Connection, job: str, moment: datetime) -> Pause | None:
    """The pause that was in force at a moment."""
    micros = to_micros(moment)
    wanted = select(pauses).where(pauses.c.job == job, pauses.c.paused_at <= micros)
    wanted = wanted.where(pauses.c.resumed_at.is_(None) | (pauses.c.resumed_at > micros))
    row = connection.execute(wanted.order_by(pauses.c.paused_at.desc()).limit(1)).first()
    return None if row is None else _pause_of(row)


def last_resumed(connection: Connection, job: str) -> datetime | None:
    """When the job's last pause ended; None where none has."""
    micros = connection.execute(select(func.max(pauses.c.resumed_at)).where(pauses.c.job == job)).scalar()
    return None if micros is None else from_micros(micros)


def begin_pause(connection: Connection, job: str, *, by: str, note: str, now: datetime, reason: Reason | None = None) -> None:
    """Pauses a job that is not paused; `reason` is why, where no person did."""
    pause = Pause(job, now, storable(by), storable(note))
    pause_id = new_id()
    row = {"id": pause_id, "job": job, "paused_at": to_micros(now), "paused_by": pause.paused_by, "note": pause.note}
    connection.execute(insert(pauses).values(row))
    record_event(connection, EventKind.JOB_PAUSED, job, at=now, subject=pause_id, reason=reason or pause.reason())


def end_pause(connection: Connection, job: str, *, by: str, note: str, now: datetime) -> None:
    """Ends the pause in force."""
    own = (pauses.c.job == job) & pauses.c.resumed_at.is_(None)
    pause_id = connection.execute(select(pauses.c.id).where(own)).scalar()
    by, note = storable(by), storable(note)
    connection.execute(update(pauses).where(own).values(resumed_at=to_micros(now), resumed_by=by, resume_note=note))
    reason = Reason(ReasonCode.RESUMED, {"by": by, "note": note})
    record_event(connection, EventKind.JOB_RESUMED, job, at=now, subject=pause_id, reason=reason)


def _pause_of(row: Row[Any]) -> Pause:
    return Pause(
        job=row.job,
        paused_at=from_micros(row.paused_at),
        paused_by=row.paused_by,
        note=row.note,
        resumed_at=None if row.resumed_at is None else from_micros(row.resumed_at),
        resumed_by=row.resumed_by,
        resume_note=row.resume_note,
    )
