"""Queries of health and the golden signals."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, case, cast, func, literal_column, or_, select, union_all
from sqlalchemy.types import Float, Integer

from taskpilot.domain.decisions import Verdict
from taskpilot.domain.runs import OPEN, FeedbackVerdict, RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.tables import (
    among,
    decision_days,
    decisions,
    feedback,
    fire_gaps,
    fires,
    job_state,
    run_day_durations,
    run_days,
    runs,
    steps,
    totals,
)

_UNJUDGED: Final = (*sorted(OPEN), RunStatus.CANCELLED)
"""Not counted: a run that has not ended, and one that a person or a newer fire ended."""
_SUCCEEDED: Final = runs.c.status == RunStatus.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Share:
    """A number out of a total."""

    part: int
    whole: int


@dataclass(frozen=True, slots=True)
class Slowest:
    """The 95th percentiles of the runs."""

    active_micros: int
    deadline_share: float
    """As a part of the run's deadline."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The runs that ended in a window."""

    succeeded: int
    ended: int
    nano: int
    """What they cost."""
    wasted_nano: int
    """What those cost that did not succeed."""
    unpriced_calls: int


_DAY: Final = 86_400_000_000
"""Microseconds."""
_EXACT: Final = 10_000
"""So many runs are sorted for their percentile; of more, the sums by day give it to two digits."""


def ended(connection: Connection, since: datetime) -> Ended:
    """The sums over the runs that ended since: of whole days from the table of days, with the part of the first day from the runs."""
    day, into_day = divmod(to_micros(since), _DAY)
    begun, over = from_micros(day * _DAY), from_micros((day + 1) * _DAY)
    # The smaller part of the day is read: what follows is added to the other days, or what came before is taken from the whole day.
    adds = into_day > _DAY // 2
    sign, first, (start, end) = (1, day + 1, (since, over)) if adds else (-1, day, (begun, since))
    days = run_days.c
    by_day = select(days.succeeded, days.ended, days.cost_nano, days.wasted_nano, days.unpriced_calls).where(days.day >= first)
    one_by_one = select(
        sign * cast(_SUCCEEDED, Integer),
        literal_column(str(sign)),
        sign * runs.c.cost_nano,
        case((~_SUCCEEDED, sign * runs.c.cost_nano), else_=0),
        sign * runs.c.unpriced_calls,
    ).where(_ended(start), runs.c.ended_at < to_micros(end))
    both = union_all(by_day, one_by_one).subquery()
    return Ended(*connection.execute(select(*(func.coalesce(func.sum(column), 0) for column in both.c))).one())


def slowest(connection: Connection, since: datetime, *, whole: int) -> Slowest | None:
    """The 95th percentiles (nearest rank) over the `whole` runs that ended since; None where none did."""
    if not whole:
        return None
    if whole > _EXACT:
        return Slowest(int(_rounded(connection, since, "active")), _rounded(connection, since, "share"))
    # By nearest rank: of n values, the one that n / 20 others are larger than. The largest first, a sort need not keep the rest.
    used = cast(runs.c.active_micros, Float) / runs.c.deadline_micros
    values = (
        select(value).where(_ended(since)).order_by(value.desc()).limit(1).offset(whole // 20) for value in (runs.c.active_micros, used)
    )
    return Slowest(*connection.execute(select(*(value.scalar_subquery() for value in values))).one())


def _rounded(connection: Connection, since: datetime, measure: str) -> float:
    """The 95th percentile over whole days, to two digits."""
    table = run_day_durations.c
    query = select(table.rounded, func.sum(table.runs)).where(table.day >= _next_day(since) - 1, table.measure == measure)
    found = connection.execute(query.group_by(table.rounded).order_by(table.rounded.desc())).all()
    larger = sum(number for _, number in found) // 20
    for value, number in found:
        larger -= number
        if larger < 0:
            return float(value)
    return 0.0


def violations(connection: Connection, since: datetime) -> Share:
    """The tool calls that policy denied, of those that it decided since."""
    first = _next_day(since)
    by_day = select(decision_days.c.denied, decision_days.c.decided).where(decision_days.c.day >= first)
    denied = cast(decisions.c.verdict == Verdict.DENY, Integer)
    within = (decisions.c.decided_at >= to_micros(since)) & (decisions.c.decided_at < first * _DAY)
    both = union_all(by_day, select(denied, literal_column("1")).where(within)).subquery()
    part, whole = connection.execute(select(*(func.coalesce(func.sum(column), 0) for column in both.c))).one()
    return Share(part, whole)


def _next_day(since: datetime) -> int:
    """The first UTC day that begins after it, in days since 1970."""
    return to_micros(since) // _DAY + 1


def confirmations(connection: Connection, since: datetime) -> Share:
    """The results rated correct, of all rated since; of each run, the newest rating."""
    correct = cast(feedback.c.verdict == FeedbackVerdict.CORRECT, Integer)
    query = select(func.coalesce(func.sum(correct), 0), func.count()).where(feedback.c.given_at >= to_micros(since))
    part, whole = connection.execute(query).one()
    return Share(part, whole)


def _ended(since: datetime) -> ColumnElement[bool]:
    return (runs.c.ended_at >= to_micros(since)) & runs.c.status.not_in(_UNJUDGED)


_LAST_STEPS: Final = 200
"""So many of the newest steps are searched for a call to a model."""
# A literal and no parameter: SQLite uses the partial index of missed fires only where it sees this value.
_MISSED: Final[ColumnElement[str]] = literal_column("'missed'")


@dataclass(frozen=True, slots=True)
class Missed:
    """The missed fires of one job."""

    job: str
    count: int
    last: datetime


@dataclass(frozen=True, slots=True)
class Pending:
    """A gateway group without the newest values."""

    job: str
    since: datetime | None
    """When its ledger changed last."""
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


def pending_groups(connection: Connection, now: datetime, *, late: timedelta) -> list[Pending]:
    """The gateway groups that are pending; not one that only waits until a late push can no longer arrive."""
    behind = job_state.c.version > job_state.c.pushed_version
    timed_out = job_state.c.push_timed_out_at <= to_micros(now - late)
    changed = func.max(func.coalesce(job_state.c.last_start, 0), func.coalesce(job_state.c.last_completion, 0))
    query = select(job_state.c.job, changed, job_state.c.push_error).where(or_(behind, timed_out)).order_by(job_state.c.job)
    return [Pending(job, from_micros(at) if at else None, error) for job, at, error in connection.execute(query)]


def last_successes(connection: Connection, jobs: Collection[str] | None = None) -> dict[str, datetime]:
    """The last success of each job, or of those that are named; jobs without one are left out."""
    query = select(job_state.c.job, job_state.c.last_success).where(job_state.c.last_success.is_not(None))
    if jobs is not None:
        query = query.where(among(job_state.c.job, jobs))
    return {job: from_micros(at) for job, at in connection.execute(query).all()}


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
