"""What health reads of the record; each costs the same with a million runs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, func, literal_column, or_, select

from taskpilot.domain.moments import from_micros, to_micros
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.store.fire_tables import fire_gaps, fires
from taskpilot.store.tables import job_state, steps, totals

_LAST_STEPS: Final = 200
"""So many of the newest steps are looked through for a call to a model."""
# Written out and not bound: SQLite takes the index of missed fires only where it sees the word.
_MISSED: Final[ColumnElement[str]] = literal_column("'missed'")


@dataclass(frozen=True, slots=True)
class Missed:
    """Fires of one job that were found to be missed."""

    job: str
    count: int
    last: datetime


@dataclass(frozen=True, slots=True)
class Owed:
    """A gateway group that does not hold the newest values."""

    job: str
    since: datetime | None
    """When its ledger changed last: it is owed for at least as long."""
    error: str | None


@dataclass(frozen=True, slots=True)
class LastCall:
    """The newest call to a model that has an end."""

    model: str
    ended_at: datetime
    status: StepStatus
    error: str | None


def missed_since(connection: Connection, since: datetime) -> list[Missed]:
    """The fires that were recorded as missed since, by job."""
    at = to_micros(since)
    found: dict[str, tuple[int, int]] = {}
    for table, number, last in ((fires, func.count(), fires.c.scheduled_for), (fire_gaps, func.sum(fire_gaps.c.number), fire_gaps.c.to_at)):
        # Grouped by an expression: for the column itself SQLite walks through the whole table, in the order of its key.
        job = table.c.job + ""
        query = select(job, number, func.max(last)).where(table.c.outcome == _MISSED, table.c.recorded_at >= at).group_by(job)
        for name, count, newest in connection.execute(query):
            before = found.get(name, (0, 0))
            found[name] = (before[0] + int(count), max(before[1], newest))
    return [Missed(name, count, from_micros(newest)) for name, (count, newest) in sorted(found.items())]


def owed_groups(connection: Connection, now: datetime, *, late: timedelta) -> list[Owed]:
    """The gateway groups that are owed; one that only waits for a late push to pass is not among them until that has had its time."""
    behind = job_state.c.version > job_state.c.pushed_version
    timed_out = job_state.c.push_timed_out_at <= to_micros(now - late)
    changed = func.max(func.coalesce(job_state.c.last_start, 0), func.coalesce(job_state.c.last_completion, 0))
    query = select(job_state.c.job, changed, job_state.c.push_error).where(or_(behind, timed_out)).order_by(job_state.c.job)
    return [Owed(job, from_micros(at) if at else None, error) for job, at, error in connection.execute(query)]


def last_successes(connection: Connection) -> dict[str, datetime]:
    """When each job succeeded last; jobs that never did are left out."""
    query = select(job_state.c.job, job_state.c.last_success).where(job_state.c.last_success.is_not(None))
    return {job: from_micros(at) for job, at in connection.execute(query)}


def last_model_call(connection: Connection) -> LastCall | None:
    """The newest call among the newest steps; None where none of them is one."""
    read = (steps.c.id, steps.c.kind, steps.c.model, steps.c.ended_at, steps.c.status, steps.c.error)
    newest = select(*read).order_by(steps.c.id.desc()).limit(_LAST_STEPS).subquery()
    ended = (newest.c.kind == StepKind.ASK) & newest.c.ended_at.is_not(None)
    query = select(newest).where(ended).order_by(newest.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else LastCall(row.model or "", from_micros(row.ended_at), StepStatus(row.status), row.error)


def telemetry_failures(connection: Connection, metric: str) -> dict[str, int]:
    """How often each sink failed, over all jobs."""
    sink = func.json_extract(totals.c.labels, "$.sink")
    query = select(sink, func.sum(totals.c.value)).where(totals.c.metric == metric).group_by(sink)
    return {str(name): int(number) for name, number in connection.execute(query)}
