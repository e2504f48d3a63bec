"""Queries over what a clock that was ahead wrote: rows whose time has not come."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, String, cast, delete, func, select, update

from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.domain.times import to_micros
from taskpilot.store.tables import among, attempts, fire_gaps, fires, job_state, runs, schedulers, schedules


def set_cursors_back(connection: Connection, jobs: Collection[str], now: datetime) -> None:
    """Sets the cursors of these jobs to now, and the begin of their schedules to now where it is later."""
    at = to_micros(now)
    values = {"cursor": at, "since": func.min(schedules.c.since, at)}
    connection.execute(update(schedules).where(among(schedules.c.job, jobs)).values(**values))


def rename_fires(connection: Connection, jobs: Collection[str], now: datetime, *, event: str) -> None:
    """Gives the ended fires of the future a key of their own. Those in the queue keep theirs: they will start."""
    own = among(fires.c.job, jobs) & (fires.c.scheduled_for > to_micros(now)) & (fires.c.key == "")
    key = f"{event}/" + cast(fires.c.scheduled_for, String)
    connection.execute(update(fires).where(own, fires.c.outcome != FireOutcome.BUFFERED).values(key=key))


def gaps_into_future(connection: Connection, jobs: Collection[str], now: datetime) -> list[Row[Any]]:
    """The gaps that end in the future."""
    wanted = select(fire_gaps).where(among(fire_gaps.c.job, jobs), fire_gaps.c.to_at > to_micros(now))
    return list(connection.execute(wanted))


def fires_between(connection: Connection, job: str, first: datetime, last: datetime) -> list[int]:
    """The scheduled times in [first, last] that have a row, in microseconds."""
    wanted = select(fires.c.scheduled_for).where(fires.c.job == job, fires.c.key == "")
    return list(connection.execute(wanted.where(fires.c.scheduled_for.between(to_micros(first), to_micros(last)))).scalars())


def cut_gap(connection: Connection, gap_id: str, *, to_at: int, number: int) -> None:
    """Ends a gap earlier; one that has no fire left is deleted."""
    own = fire_gaps.c.id == gap_id
    connection.execute(update(fire_gaps).where(own).values(to_at=to_at, number=number) if number > 0 else delete(fire_gaps).where(own))


def follow_clock_back(connection: Connection, *, by: timedelta, now: datetime) -> None:
    """After the clock was set back: what is to happen later keeps its distance, and nothing that happened lies in the future."""
    step, at = by // timedelta(microseconds=1), to_micros(now)
    for table, waiting in ((fires, fires.c.outcome == FireOutcome.BUFFERED), (runs, runs.c.status == RunStatus.QUEUED)):
        for column in (table.c.start_after, table.c.launched_at):
            connection.execute(update(table).where(waiting, column > at).values({column: func.max(column - step, at)}))
    happened = (
        schedulers.c.last_tick_at,
        *(job_state.c[name] for name in ("last_scheduled", "last_start", "last_completion", "last_success", "push_timed_out_at")),
        attempts.c.traces_due_at,
    )
    for column in happened:
        connection.execute(update(column.table).where(column > at).values({column: at}))
