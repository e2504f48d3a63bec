"""Queries over the runs and fires since an instant, and over the last ones of each job."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, case, func, literal_column, select, union

from taskpilot.domain.fires import ClockEvent, ClockEventKind, Fire, Gap
from taskpilot.domain.runs import OPEN, FireOutcome, Run, RunStatus
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.fires import fire_of, gap_of
from taskpilot.store.records import run_of
from taskpilot.store.tables import clock_events, fire_gaps, fires, job_state, runs, schedules

ROWS_MAX: Final = 1000
"""More runs or fires of a night than this are counted, not read."""
_NOT_RUN: Final = (FireOutcome.MISSED, FireOutcome.BLOCKED_BUDGET, FireOutcome.BLOCKED_CONFIG)
_DECISIVE: Final = (FireOutcome.STARTED, *_NOT_RUN)
"""The outcomes that say whether a job runs; a fire that was skipped, or covered by a later one, says nothing."""
# A literal and no parameter: SQLite uses the partial index of missed fires only where it sees this value.
_MISSED: Final = fires.c.outcome == literal_column("'missed'")


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
    wanted = select(runs).where(runs.c.ended_at >= to_micros(since), runs.c.status.in_(sorted(statuses)))
    return [run_of(row) for row in connection.execute(wanted.order_by(runs.c.ended_at.desc()).limit(ROWS_MAX))]


def last_bad_runs(connection: Connection, jobs: Collection[str], statuses: Collection[RunStatus]) -> list[Run]:
    """Of the jobs whose last run ended in one of these states, that run."""
    wanted = select(job_state.c.job, job_state.c.last_status).where(job_state.c.last_status.in_(sorted(statuses)))
    found = []
    for job, status in connection.execute(wanted).all():
        if job in jobs:
            newest = select(runs).where(runs.c.job == job, runs.c.status == status).order_by(runs.c.id.desc()).limit(1)
            found += [run_of(row) for row in connection.execute(newest)]
    return found


def waiting_runs(connection: Connection) -> list[Run]:
    """The runs that wait for a person, the newest first."""
    wanted = select(runs).where(runs.c.status == RunStatus.WAITING).order_by(runs.c.id.desc()).limit(ROWS_MAX)
    return [run_of(row) for row in connection.execute(wanted)]


def fire_counts(connection: Connection, since: datetime) -> dict[FireOutcome, int]:
    """How many fires since an instant have each outcome; a missed one counts by the time at which that was recorded."""
    at = to_micros(since)
    jobs = union(select(schedules.c.job), select(job_state.c.job)).subquery()
    # By job: the primary key begins with it.
    rows = select(fires.c.outcome, func.count()).join_from(jobs, fires, fires.c.job == jobs.c.job)
    wanted = [
        rows.where(fires.c.scheduled_for >= at, fires.c.outcome != FireOutcome.MISSED).group_by(fires.c.outcome),
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
    blocked = select(fires).join_from(schedules, fires, fires.c.job == schedules.c.job)
    blocked = blocked.where(fires.c.scheduled_for >= at, fires.c.outcome.in_(_NOT_RUN[1:])).order_by(fires.c.scheduled_for.desc())
    gaps = select(fire_gaps).where(fire_gaps.c.recorded_at >= at, fire_gaps.c.outcome.in_(_NOT_RUN)).limit(ROWS_MAX)
    found: list[Fire | Gap] = [fire_of(row) for query in (missed, blocked.limit(ROWS_MAX)) for row in connection.execute(query)]
    found += map(gap_of, connection.execute(gaps))
    return sorted(found, key=_last, reverse=True)


def last_fires_not_run(connection: Connection) -> list[Fire | Gap]:
    """Of the jobs whose last fire was missed or blocked, that fire; one that was skipped or covered by another does not count."""
    last = _newest(fires.c.scheduled_for, fires)
    rows = select(fires).join_from(schedules, fires, fires.c.job == schedules.c.job).where(fires.c.scheduled_for == last, fires.c.key == "")
    newest: dict[str, Fire | Gap] = {row.job: fire_of(row) for row in connection.execute(rows)}
    last = _newest(fire_gaps.c.to_at, fire_gaps)
    gaps = select(fire_gaps).join_from(schedules, fire_gaps, fire_gaps.c.job == schedules.c.job).where(fire_gaps.c.to_at == last)
    for gap in map(gap_of, connection.execute(gaps)):
        if gap.job not in newest or _last(newest[gap.job]) < gap.last:
            newest[gap.job] = gap
    return [newest[job] for job in sorted(newest) if newest[job].outcome in _NOT_RUN]


def _newest(column: Any, table: Any) -> Any:
    one = table.alias("newest")
    wanted = select(func.max(one.c[column.name])).where(one.c.job == schedules.c.job, one.c.outcome.in_(_DECISIVE))
    return wanted.correlate(schedules).scalar_subquery()


def _last(one: Fire | Gap) -> datetime:
    return one.scheduled_for if isinstance(one, Fire) else one.last


def clock_events_since(connection: Connection, since: datetime) -> list[ClockEvent]:
    """When no scheduler was awake and when the clock was set, since an instant."""
    until = case((clock_events.c.from_at > clock_events.c.to_at, clock_events.c.from_at), else_=clock_events.c.to_at)
    rows = connection.execute(select(clock_events).where(until >= to_micros(since)).order_by(clock_events.c.id))
    return [ClockEvent(ClockEventKind(row.kind), from_micros(row.from_at), from_micros(row.to_at)) for row in rows]
