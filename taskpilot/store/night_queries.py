"""Queries over the runs and fires since an instant, and over the last ones of each job."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Column, ColumnElement, Connection, Table, case, func, literal_column, select, union

from taskpilot.domain.fires import ClockEvent, ClockEventKind, Fire, Gap
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import OPEN, FireOutcome, Run, RunStatus
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.fires import fire_of, gap_at, gap_of, get_fire
from taskpilot.store.records import run_of
from taskpilot.store.tables import clock_events, fire_gaps, fires, job_state, runs, schedules

ROWS_MAX: Final = 1000
"""More runs or fires of a night than this are counted, not read."""
_NOT_RUN: Final = (FireOutcome.MISSED, FireOutcome.BLOCKED_BUDGET, FireOutcome.BLOCKED_CONFIG)
_DECISIVE: Final = (FireOutcome.STARTED, *_NOT_RUN)
"""The outcomes that say whether a job runs; a fire that was skipped, or covered by a later one, says nothing."""
# Literals and no parameters: SQLite uses the partial indexes of missed and blocked fires only where it sees these values.
_MISSED: Final = fires.c.outcome == literal_column("'missed'")
_BLOCKED: Final = fires.c.outcome.in_([literal_column("'blocked_budget'"), literal_column("'blocked_config'")])


@dataclass(frozen=True, slots=True)
class RunTotals:
    """The runs that ended since an instant, and those that are open now."""

    counts: dict[RunStatus, int]
    cost_nano: int
    """Of the calls that have a price."""
    unpriced_calls: int


def run_totals(connection: Connection, since: datetime) -> RunTotals:
    """Counts the runs by their states, and adds up their cost."""
    sums = (func.count(), func.coalesce(func.sum(runs.c.cost_nano), 0), func.coalesce(func.sum(runs.c.unpriced_calls), 0))
    ended = select(runs.c.status, *sums).where(runs.c.ended_at >= to_micros(since)).group_by(runs.c.status)
    is_open = select(runs.c.status, *sums).where(runs.c.status.in_(sorted(OPEN))).group_by(runs.c.status)
    rows = [*connection.execute(ended), *connection.execute(is_open)]
    counts = {RunStatus(status): number for status, number, _, _ in rows}
    return RunTotals(
        {status: counts[status] for status in RunStatus if status in counts}, sum(row[2] for row in rows), sum(row[3] for row in rows)
    )


def bad_runs(connection: Connection, since: datetime, statuses: Collection[RunStatus]) -> list[Run]:
    """The runs that ended since in one of these states, the newest first."""
    # The plus keeps SQLite from reading every run of these states: those that ended since are few.
    status: ColumnElement[str] = literal_column("+runs.status")
    wanted = select(runs).where(runs.c.ended_at >= to_micros(since), status.in_(sorted(statuses)))
    return [run_of(row) for row in connection.execute(wanted.order_by(runs.c.ended_at.desc()).limit(ROWS_MAX))]


def last_bad_runs(connection: Connection, jobs: Collection[str], statuses: Collection[RunStatus]) -> list[Run]:
    """Of the jobs whose last run ended in one of these states, that run."""
    own = runs.c.job == job_state.c.job, runs.c.status == job_state.c.last_status
    newest = select(runs.c.id).where(*own).correlate(job_state).order_by(runs.c.id.desc()).limit(1).scalar_subquery()
    ids = select(newest).where(job_state.c.last_status.in_(sorted(statuses)))
    return [run_of(row) for row in connection.execute(select(runs).where(runs.c.id.in_(ids))).all() if row.job in jobs]


def waiting_runs(connection: Connection) -> list[Run]:
    """The runs that wait for a person, the newest first."""
    wanted = select(runs).where(runs.c.status == RunStatus.WAITING).order_by(runs.c.id.desc()).limit(ROWS_MAX)
    return [run_of(row) for row in connection.execute(wanted)]


def fire_counts(connection: Connection, since: datetime) -> dict[FireOutcome, int]:
    """How many fires since an instant have each outcome; a missed one counts by the time at which that was recorded."""
    at = to_micros(since)
    # By job: the primary key begins with it.
    of_jobs = fires.c.job.in_(union(select(schedules.c.job), select(job_state.c.job)))
    wanted = [
        select(fires.c.outcome, func.count())
        .where(of_jobs, fires.c.scheduled_for >= at, fires.c.outcome != FireOutcome.MISSED)
        .group_by(fires.c.outcome),
        select(fires.c.outcome, func.count()).where(_MISSED, fires.c.recorded_at >= at).group_by(fires.c.outcome),
        select(fire_gaps.c.outcome, func.sum(fire_gaps.c.number)).where(fire_gaps.c.recorded_at >= at).group_by(fire_gaps.c.outcome),
    ]
    counts: dict[FireOutcome, int] = {}
    for query in wanted:
        for outcome, number in connection.execute(query):
            counts[FireOutcome(outcome)] = counts.get(FireOutcome(outcome), 0) + int(number)
    return {outcome: counts[outcome] for outcome in FireOutcome if outcome in counts}


def fires_not_run(connection: Connection, since: datetime) -> list[Fire | Gap]:
    """The missed and blocked fires since an instant, the latest first."""
    at = to_micros(since)
    missed = select(fires).where(_MISSED, fires.c.recorded_at >= at).order_by(fires.c.scheduled_for.desc()).limit(ROWS_MAX)
    # The plus keeps SQLite from reading every fire of each job: those that were blocked are few.
    scheduled: ColumnElement[bool] = literal_column("+fires.job").in_(select(schedules.c.job))
    blocked = select(fires).where(_BLOCKED, fires.c.scheduled_for >= at, scheduled).order_by(fires.c.scheduled_for.desc())
    gaps = select(fire_gaps).where(fire_gaps.c.recorded_at >= at, fire_gaps.c.outcome.in_(_NOT_RUN)).limit(ROWS_MAX)
    found: list[Fire | Gap] = [fire_of(row) for query in (missed, blocked.limit(ROWS_MAX)) for row in connection.execute(query)]
    found += map(gap_of, connection.execute(gaps))
    return sorted(found, key=_last, reverse=True)


def last_fires_not_run(connection: Connection) -> list[Fire | Gap]:
    """Of the jobs whose last fire was missed or blocked, that fire; one that was skipped or covered by another does not count."""
    newest: dict[str, tuple[int, str, Callable[[Connection, str, datetime], Fire | Gap | None]]] = {}
    reads: tuple[tuple[Table, Column[int], Callable[[Connection, str, datetime], Fire | Gap | None]], ...]
    reads = ((fires, fires.c.scheduled_for, get_fire), (fire_gaps, fire_gaps.c.to_at, gap_at))
    for table, column, read in reads:
        own = table.c.job == schedules.c.job, table.c.outcome.in_(_DECISIVE)
        # A subquery each, so that SQLite goes from the jobs to the end of each job's index.
        at, what = (select(one).where(*own).order_by(column.desc()).limit(1).scalar_subquery() for one in (column, table.c.outcome))
        for job, micros, outcome in connection.execute(select(schedules.c.job, at, what)).all():
            if micros is not None and (job not in newest or newest[job][0] < micros):
                newest[job] = (micros, outcome, read)
    rows = (read(connection, job, from_micros(micros)) for job, (micros, outcome, read) in sorted(newest.items()) if outcome in _NOT_RUN)
    return [row for row in rows if row is not None]


def skipped_behind(connection: Connection, jobs: Collection[str], since: datetime) -> dict[str, int]:
    """How many fires of these jobs were skipped since an instant, because a run of the job waits for a person."""
    wanted = select(fires.c.job, func.count().label("number")).where(
        fires.c.job.in_(sorted(jobs)), fires.c.scheduled_for >= to_micros(since)
    )
    wanted = wanted.where(fires.c.outcome == FireOutcome.SKIPPED_OVERLAP, fires.c.reason_code == ReasonCode.RUN_WAITING)
    return {row.job: row.number for row in connection.execute(wanted.group_by(fires.c.job))}


def _last(one: Fire | Gap) -> datetime:
    return one.scheduled_for if isinstance(one, Fire) else one.last


def clock_events_since(connection: Connection, since: datetime) -> list[ClockEvent]:
    """When no scheduler was awake and when the clock was set, since an instant."""
    until = case((clock_events.c.from_at > clock_events.c.to_at, clock_events.c.from_at), else_=clock_events.c.to_at)
    rows = connection.execute(select(clock_events).where(until >= to_micros(since)).order_by(clock_events.c.id))
    return [ClockEvent(ClockEventKind(row.kind), from_micros(row.from_at), from_micros(row.to_at)) for row in rows]
