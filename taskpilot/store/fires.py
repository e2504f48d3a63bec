"""Queries over fires and gaps: their outcomes, and the queue of buffered fires."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    bindparam,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from taskpilot.domain.events import EventKind
from taskpilot.domain.fires import LAUNCH, Fire, Gap
from taskpilot.domain.ids import new_id
from taskpilot.domain.reasons import NO_REASON, Reason
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.events import record_event
from taskpilot.store.records import reason_columns, reason_of
from taskpilot.store.tables import among, fire_gaps, fires, runs, schedules

# A literal and no parameter: SQLite uses the partial index of the queue only where it sees this value.
_IN_QUEUE = fires.c.outcome == literal_column(f"'{FireOutcome.BUFFERED}'")

# No scheduler has taken it, or the start did not succeed in time.
_FREE_FIRE = or_(fires.c.launched_at.is_(None), fires.c.launched_at <= bindparam("stale"))
_FREE_RUN = or_(runs.c.launched_at.is_(None), runs.c.launched_at <= bindparam("stale"))
_FIRE_IS_STARTABLE = _IN_QUEUE & or_(fires.c.start_after.is_(None), fires.c.start_after <= bindparam("now")) & _FREE_FIRE
_RUN_IS_STARTABLE = (
    (runs.c.status == RunStatus.QUEUED) & runs.c.lease_token.is_(None) & (runs.c.start_after <= bindparam("now")) & _FREE_RUN
)
_ANYTHING = select(exists().where(_FIRE_IS_STARTABLE) | exists().where(_RUN_IS_STARTABLE))
_NEXT_START = select(
    select(fires.c.start_after)
    .where(_IN_QUEUE, fires.c.start_after > bindparam("now"))
    .order_by(fires.c.start_after)
    .limit(1)
    .scalar_subquery(),
    select(func.min(runs.c.start_after))
    .where(runs.c.status == RunStatus.QUEUED, runs.c.lease_token.is_(None), runs.c.start_after > bindparam("now"))
    .scalar_subquery(),
)
_PLACE = func.row_number().over(partition_by=fires.c.job, order_by=(fires.c.start_after, fires.c.scheduled_for)).label("place")
_PLACED = select(fires.c.job, fires.c.scheduled_for, fires.c.start_after, _PLACE).where(_FIRE_IS_STARTABLE).subquery()
_FIRST_FIRES = (
    select(_PLACED.c.job, _PLACED.c.scheduled_for)
    .where(_PLACED.c.place <= bindparam("each"))
    .order_by(_PLACED.c.start_after, _PLACED.c.scheduled_for, _PLACED.c.job)
)

_EVENTS: Final = {
    FireOutcome.MISSED: EventKind.FIRE_MISSED,
    FireOutcome.BLOCKED_BUDGET: EventKind.FIRE_BLOCKED,
    FireOutcome.BLOCKED_CONFIG: EventKind.FIRE_BLOCKED,
}
"""The outcomes that are recorded as events."""


def fire_row(connection: Connection, job: str, scheduled_for: datetime) -> Row[Any] | None:
    """The row of a scheduled fire, where it has one."""
    return connection.execute(select(fires).where(_the_fire(job, scheduled_for))).first()


def _the_fire(job: str, scheduled_for: datetime) -> ColumnElement[bool]:
    return (fires.c.job == job) & (fires.c.scheduled_for == to_micros(scheduled_for)) & (fires.c.key == "")


def get_fire(connection: Connection, job: str, scheduled_for: datetime) -> Fire | None:
    """A fire that has its own row, with its outcome."""
    row = fire_row(connection, job, scheduled_for)
    return None if row is None else fire_of(row)


def gap_at(connection: Connection, job: str, moment: datetime) -> Gap | None:
    """The gap whose first and last fire enclose a moment. Whether the moment is a fire depends on the schedule."""
    micros = to_micros(moment)
    wanted = select(fire_gaps).where(fire_gaps.c.job == job, fire_gaps.c.to_at >= micros, fire_gaps.c.from_at <= micros)
    row = connection.execute(wanted.order_by(fire_gaps.c.to_at).limit(1)).first()
    return None if row is None else gap_of(row)


def fires_after_cursors(connection: Connection, jobs: Collection[str]) -> dict[str, frozenset[int]]:
    """Which instants after each job's cursor, in microseconds, have a row already."""
    wanted = select(fires.c.job, fires.c.scheduled_for).join(schedules, schedules.c.job == fires.c.job)
    wanted = wanted.where(fires.c.scheduled_for > schedules.c.cursor, fires.c.key == "", among(schedules.c.job, jobs))
    found: dict[str, set[int]] = {}
    for row in connection.execute(wanted):
        found.setdefault(row.job, set()).add(row.scheduled_for)
    return {job: frozenset(instants) for job, instants in found.items()}


def insert_fires(connection: Connection, rows: Sequence[Fire]) -> None:
    """Records fires; the primary key lets only one process claim each."""
    if rows:
        micros = cache(to_micros)
        # Plain driver SQL: a thousand fires of one second are one call, without SQLAlchemy's parameter sets.
        connection.exec_driver_sql(
            "INSERT INTO fires (job, scheduled_for, key, outcome, run_id, reason_code, reason_facts, recorded_at, start_after) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    fire.job,
                    micros(fire.scheduled_for),
                    fire.key,
                    fire.outcome,
                    fire.run_id,
                    *reason_columns(fire.reason).values(),
                    micros(fire.recorded_at),
                    None if fire.start_after is None else micros(fire.start_after),
                )
                for fire in rows
            ],
        )
        for fire in rows:
            if (kind := _EVENTS.get(fire.outcome)) is not None:
                record_event(connection, kind, fire.job, at=fire.recorded_at, fire=fire.scheduled_for, key=fire.key, reason=fire.reason)


def insert_gap(connection: Connection, gap: Gap) -> None:
    """Records many fires as one row."""
    connection.execute(
        insert(fire_gaps).values(
            id=new_id(),
            job=gap.job,
            from_at=to_micros(gap.first),
            to_at=to_micros(gap.last),
            number=gap.count,
            outcome=gap.outcome,
            schedule=gap.schedule,
            recorded_at=to_micros(gap.recorded_at),
            **reason_columns(gap.reason),
        )
    )
    if (kind := _EVENTS.get(gap.outcome)) is not None:
        record_event(connection, kind, gap.job, at=gap.recorded_at, fire=gap.last, number=gap.count, reason=gap.reason)


def settle_fire(
    connection: Connection,
    job: str,
    scheduled_for: datetime,
    outcome: FireOutcome,
    *,
    now: datetime,
    reason: Reason = NO_REASON,
    run_id: str | None = None,
) -> bool:
    """Gives a buffered fire its final outcome; False where it has one already."""
    values = {"outcome": outcome, "recorded_at": to_micros(now), "run_id": run_id, **reason_columns(reason)}
    settled = connection.execute(update(fires).where(_the_fire(job, scheduled_for), _IN_QUEUE).values(**values)).rowcount == 1
    if settled and (kind := _EVENTS.get(outcome)) is not None:
        record_event(connection, kind, job, at=now, fire=scheduled_for, reason=reason)
    return settled


def waiting_fires(connection: Connection, jobs: Collection[str] | None = None) -> dict[str, list[datetime]]:
    """The buffered fires of jobs, ascending; of all jobs where none are named."""
    wanted = select(fires.c.job, fires.c.scheduled_for).where(_IN_QUEUE).order_by(fires.c.scheduled_for)
    if jobs is not None:
        wanted = wanted.where(among(fires.c.job, jobs))
    found: dict[str, list[datetime]] = {}
    for row in connection.execute(wanted):
        found.setdefault(row.job, []).append(from_micros(row.scheduled_for))
    return found


def queue_length(connection: Connection) -> int:
    """Buffered fires, and queued runs that no process holds."""
    waiting = connection.execute(select(func.count()).select_from(fires).where(_IN_QUEUE)).scalar() or 0
    queued = select(func.count()).select_from(runs).where(runs.c.status == RunStatus.QUEUED, runs.c.lease_token.is_(None))
    return waiting + (connection.execute(queued.where(runs.c.start_after.is_not(None))).scalar() or 0)


def anything_startable(connection: Connection, now: datetime) -> bool:
    """Whether a fire or a run is due that no process is starting: a server asks each second."""
    return bool(connection.execute(_ANYTHING, {"now": to_micros(now), "stale": to_micros(now - LAUNCH)}).scalar())


def next_start(connection: Connection, now: datetime) -> datetime | None:
    """When the first of the fires and runs that are in the queue for a later time may start."""
    found = [micros for micros in connection.execute(_NEXT_START, {"now": to_micros(now)}).one() if micros is not None]
    return from_micros(min(found)) if found else None


def startable_fires(connection: Connection, now: datetime, *, each: int) -> list[Row[Any]]:
    """The due buffered fires that no process is starting: the first `each` of every job, in the order of the queue.

    A row has `job` and `scheduled_for`.
    """
    return list(connection.execute(_FIRST_FIRES, {"now": to_micros(now), "stale": to_micros(now - LAUNCH), "each": each}))


def startable_runs(connection: Connection, now: datetime) -> list[Row[Any]]:
    """The due queued runs that no process holds or is starting; the longest due first."""
    wanted = select(runs).where(_RUN_IS_STARTABLE).order_by(runs.c.start_after, runs.c.id).limit(100)
    return list(connection.execute(wanted, {"now": to_micros(now), "stale": to_micros(now - LAUNCH)}))


def launched_jobs(connection: Connection, now: datetime) -> list[str]:
    """The job of each start in progress: taken from the queue, and without a process that holds a lease."""
    fresh = to_micros(now - LAUNCH)
    under_way = select(fires.c.job).where(_IN_QUEUE, fires.c.launched_at > fresh)
    found = list(connection.execute(under_way).scalars())
    queued = (runs.c.status == RunStatus.QUEUED) & runs.c.lease_token.is_(None) & (runs.c.launched_at > fresh)
    return found + list(connection.execute(select(runs.c.job).where(queued)).scalars())


def mark_fire_launched(connection: Connection, job: str, scheduled_for: datetime, *, by: str | None, now: datetime | None) -> None:
    """Takes a fire out of the queue until `LAUNCH` has passed; with None, puts it back at once."""
    launched = None if now is None else to_micros(now)
    connection.execute(update(fires).where(_the_fire(job, scheduled_for), _IN_QUEUE).values(launched_by=by, launched_at=launched))


def mark_run_launched(connection: Connection, run_id: str, *, by: str | None, now: datetime | None) -> None:
    """Takes a queued run out of the queue until `LAUNCH` has passed; with None, puts it back at once."""
    launched = None if now is None else to_micros(now)
    connection.execute(update(runs).where(runs.c.id == run_id).values(launched_by=by, launched_at=launched))


def fires_page(
    connection: Connection,
    *,
    job: str | None,
    before: datetime | None,
    limit: int,
    outcomes: Iterable[str] = (),
    since: datetime | None = None,
) -> list[Fire]:
    """Fires that have their own row, the latest first."""
    wanted = _paged(select(fires), fires, fires.c.scheduled_for, job, outcomes, since, before)
    wanted = wanted.order_by(fires.c.scheduled_for.desc(), fires.c.job).limit(limit)
    return [fire_of(row) for row in connection.execute(wanted)]


def gaps_page(
    connection: Connection,
    job: str | None,
    *,
    before: datetime | None,
    limit: int,
    outcomes: Iterable[str] = (),
    since: datetime | None = None,
) -> list[Gap]:
    """Gaps, the latest first."""
    wanted = _paged(select(fire_gaps), fire_gaps, fire_gaps.c.to_at, job, outcomes, since, before)
    return [gap_of(row) for row in connection.execute(wanted.order_by(fire_gaps.c.to_at.desc()).limit(limit))]


def _paged(
    wanted: Select[Any],
    table: Table,
    at: Column[int],
    job: str | None,
    outcomes: Iterable[str],
    since: datetime | None,
    before: datetime | None,
) -> Select[Any]:
    if job is not None:
        wanted = wanted.where(table.c.job == job)
    if allowed := sorted(outcomes):
        wanted = wanted.where(table.c.outcome.in_(allowed))
    if since is not None:
        wanted = wanted.where(at >= to_micros(since))
    return wanted if before is None else wanted.where(at < to_micros(before))


def fire_of(row: Row[Any]) -> Fire:
    """A row of `fires`."""
    return Fire(
        job=row.job,
        scheduled_for=from_micros(row.scheduled_for),
        outcome=FireOutcome(row.outcome),
        run_id=row.run_id,
        reason=reason_of(row),
        recorded_at=from_micros(row.recorded_at),
        start_after=None if row.start_after is None else from_micros(row.start_after),
        key=row.key,
    )


def gap_of(row: Row[Any]) -> Gap:
    """A row of `fire_gaps`."""
    return Gap(
        job=row.job,
        first=from_micros(row.from_at),
        last=from_micros(row.to_at),
        count=row.number,
        outcome=FireOutcome(row.outcome),
        reason=reason_of(row),
        schedule=row.schedule,
        recorded_at=from_micros(row.recorded_at),
    )
