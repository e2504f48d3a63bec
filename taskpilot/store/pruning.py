"""Deletes old history in short transactions; no counter changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, delete, exists, func, select, tuple_, union

from taskpilot.domain.decisions import DecisionStatus
from taskpilot.domain.runs import OPEN, FireOutcome, RunStatus
from taskpilot.domain.steps import MEMORY, StepKind
from taskpilot.domain.tasks import TaskStatus
from taskpilot.domain.times import to_micros
from taskpilot.store.tables import attempts, decisions, fire_gaps, fires, job_state, runs, schedules, steps, tasks

ROWS_MAX: Final = 2_000
"""Rows that one transaction deletes: about 20 ms, so that the writes of runs wait only briefly."""
YOUNGEST: Final = timedelta(days=1)
"""Nothing younger is pruned: a fire may be caught up for half a day, and without its row it would run again."""
_BATCH: Final = 200
"""Runs that one transaction checks."""
_OPEN: Final = tuple(sorted(OPEN))


@dataclass(frozen=True, slots=True)
class Position:
    """How far a prune has come: the end and the id of the last run."""

    ended_at: int = 0
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """The result of one transaction."""

    deleted: tuple[str, ...]
    """Ids of runs."""
    kept: int
    """Runs that are old enough and are kept."""
    position: Position
    over: bool
    """Nothing older than the instant is left behind the position."""


def prune_runs(connection: Connection, before: datetime, position: Position, *, traces: bool = True, dry_run: bool = False) -> Batch:
    """Deletes some runs that ended before an instant, with all that belongs to them, from a position on.

    Kept are those that are waited for (a task in review, a pending decision), whose spans are not written yet, or, with `traces`, not
    delivered, what their job's later runs recall, and of each job the newest run, or as many as decide whether its failures pause it.
    """
    deleted: list[str] = []
    kept, rows = 0, 0
    newest: dict[str, str] = {}
    candidates = list(connection.execute(_candidates(before, position)))
    for row in candidates:
        if row.job not in newest:
            newest[row.job] = _newest_kept(connection, row.job)
        if row.id >= newest[row.job] or any(connection.execute(select(reason)).scalar() for reason in _reasons(row, traces=traces)):
            kept += 1
        else:
            if not dry_run:
                some = select(steps.c.id).where(steps.c.run_id == row.id).limit(ROWS_MAX)
                rows += connection.execute(delete(steps).where(steps.c.id.in_(some))).rowcount
                if rows >= ROWS_MAX:
                    # The next transaction continues with this run.
                    return Batch(tuple(deleted), kept, position, over=False)
                connection.execute(delete(runs).where(runs.c.id == row.id))
            rows += 1
            deleted.append(row.id)
        position = Position(row.ended_at, row.id)
    return Batch(tuple(deleted), kept, position, over=len(candidates) < _BATCH)


def prune_fires(connection: Connection, job: str, before: datetime, *, dry_run: bool = False) -> int:
    """Deletes some of a job's fires and gaps that are over before an instant; gives how many, 0 where none is left.

    With `dry_run` it counts all of them, those too whose run will be kept.

    The job's newest fire stays: the next one's data interval begins there. So does the fire of a run that is still there, and what
    lies after the schedule's cursor: without its row it would be due again.
    """
    limit = to_micros(before)
    done = select(schedules.c.cursor).where(schedules.c.job == job).scalar_subquery()
    newest = select(func.max(fires.c.scheduled_for)).where(fires.c.job == job).scalar_subquery()
    needed = runs.c.id == fires.c.run_id
    if dry_run:
        needed &= func.coalesce(runs.c.ended_at, limit) >= limit
    old_fires = and_(
        fires.c.job == job,
        fires.c.scheduled_for < limit,
        fires.c.recorded_at < limit,
        fires.c.outcome != FireOutcome.BUFFERED,
        fires.c.scheduled_for < newest,
        fires.c.scheduled_for <= func.coalesce(done, limit),
        ~exists().where(needed),
    )
    old_gaps = and_(
        fire_gaps.c.job == job,
        fire_gaps.c.to_at < limit,
        fire_gaps.c.recorded_at < limit,
        fire_gaps.c.to_at <= func.coalesce(done, limit),
    )
    if dry_run:
        counts = (select(func.count()).select_from(table).where(old) for table, old in ((fires, old_fires), (fire_gaps, old_gaps)))
        return sum(connection.execute(count).scalar() or 0 for count in counts)
    some = select(fires.c.scheduled_for).where(old_fires).limit(ROWS_MAX)
    gone = connection.execute(delete(fires).where(fires.c.job == job, fires.c.scheduled_for.in_(some))).rowcount
    some = select(fire_gaps.c.id).where(old_gaps).limit(ROWS_MAX)
    return gone + connection.execute(delete(fire_gaps).where(fire_gaps.c.id.in_(some))).rowcount


def recorded_jobs(connection: Connection) -> list[str]:
    """Every job that may have fires."""
    return sorted(connection.execute(union(select(job_state.c.job), select(schedules.c.job))).scalars())


def unknown_runs(connection: Connection, run_ids: list[str]) -> set[str]:
    """Those of the ids that no run has."""
    return set(run_ids) - set(connection.execute(select(runs.c.id).where(runs.c.id.in_(run_ids))).scalars())


def free_bytes(connection: Connection) -> int:
    """Bytes of the store's file that are free and will be reused."""
    pages, size = (connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("freelist_count", "page_size"))
    return int(pages or 0) * int(size or 0)


def _candidates(before: datetime, position: Position) -> Any:
    after = tuple_(runs.c.ended_at, runs.c.id) > (position.ended_at, position.run_id)
    return (
        select(runs.c.id, runs.c.job, runs.c.status, runs.c.ended_at)
        .where(runs.c.ended_at >= position.ended_at, runs.c.ended_at < to_micros(before), after, runs.c.status.not_in(_OPEN))
        .order_by(runs.c.ended_at, runs.c.id)
        .limit(_BATCH)
    )


def _newest_kept(connection: Connection, job: str) -> str:
    """The oldest of the newest runs of a job, which are kept: one, or as many as pause the job where they fail."""
    newest_first = select(runs.c.id, runs.c.pause_after_failures).where(runs.c.job == job).order_by(runs.c.id.desc()).limit(1)
    newest = connection.execute(newest_first).one()
    last = connection.execute(newest_first.offset((newest.pause_after_failures or 1) - 1)).first()
    return "" if last is None else str(last.id)


def _reasons(row: Row[Any], *, traces: bool) -> Iterator[Any]:
    """Each a condition that keeps the run, the cheapest first."""
    yield exists().where(attempts.c.run_id == row.id, attempts.c.ended_at.is_not(None), attempts.c.traces_written_at.is_(None))
    if traces:
        yield exists().where(attempts.c.run_id == row.id, attempts.c.traces_due_at.is_not(None))
    if row.status != RunStatus.CANCELLED:
        # As expressions that no index serves: a run's rows are few, and the run's own index is the one to take.
        yield exists().where(tasks.c.run_id == row.id, tasks.c.status.concat("") == TaskStatus.REVIEW)
        yield exists().where(decisions.c.run_id == row.id, decisions.c.status.concat("") == DecisionStatus.PENDING)
    if row.status == RunStatus.SUCCEEDED:
        remembered, again, later = steps.alias("remembered"), steps.alias("again"), runs.alias("later")
        newer_value = exists().where(
            later.c.job == row.job,
            later.c.status == RunStatus.SUCCEEDED,
            later.c.id > row.id,
            again.c.run_id == later.c.id,
            again.c.scope == MEMORY,
            again.c.kind == StepKind.REMEMBER,
            again.c.name == remembered.c.name,
        )
        yield exists().where(
            remembered.c.run_id == row.id, remembered.c.scope == MEMORY, remembered.c.kind == StepKind.REMEMBER, ~newer_value
        )
