"""Queries of the pages: the last runs of each job as bars, and what became of a job's fires."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, bindparam, func, or_, select

from taskpilot.domain.decisions import DecisionStatus
from taskpilot.domain.runs import OPEN, FireOutcome, RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.tables import decisions, fire_gaps, fires, runs, tasks

_LAST_RUNS: Final = (
    select(runs.c.id, runs.c.status, runs.c.active_micros, runs.c.cost_nano, runs.c.created_at)
    .where(runs.c.job == bindparam("the_job"))
    .order_by(runs.c.id.desc())
    .limit(bindparam("number"))
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A run as a chart shows it."""

    run_id: str
    status: RunStatus
    active_micros: int
    cost_nano: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class PastFire:
    """A fire and what became of it, or several with one outcome."""

    at: datetime
    outcome: FireOutcome
    status: RunStatus | None
    """Of the run that it started."""
    number: int = 1


def last_bars(connection: Connection, jobs: Iterable[str], number: int) -> dict[str, list[Bar]]:
    """The last runs of each job, the oldest first."""
    return {
        job: [
            Bar(row.id, RunStatus(row.status), row.active_micros, row.cost_nano, from_micros(row.created_at))
            for row in connection.execute(_LAST_RUNS, {"the_job": job, "number": number})
        ][::-1]
        for job in jobs
    }


def past_fires(connection: Connection, job: str, since: datetime, limit: int) -> list[PastFire]:
    """The fires and gaps of a job since an instant, the latest first."""
    wanted = (
        select(fires.c.scheduled_for, fires.c.outcome, runs.c.status)
        .select_from(fires.outerjoin(runs, and_(runs.c.id == fires.c.run_id)))
        .where(fires.c.job == job, fires.c.scheduled_for >= to_micros(since))
        .order_by(fires.c.scheduled_for.desc())
        .limit(limit)
    )
    found = [
        PastFire(from_micros(row.scheduled_for), FireOutcome(row.outcome), None if row.status is None else RunStatus(row.status))
        for row in connection.execute(wanted)
    ]
    gaps = select(fire_gaps).where(fire_gaps.c.job == job, fire_gaps.c.to_at >= to_micros(since)).order_by(fire_gaps.c.to_at.desc())
    found += [PastFire(from_micros(row.to_at), FireOutcome(row.outcome), None, row.number) for row in connection.execute(gaps.limit(limit))]
    return found


def open_questions(connection: Connection) -> int:
    """How many tool calls and tasks of runs that have not ended wait for a person."""
    numbers = (
        select(func.count())
        .select_from(table.join(runs, runs.c.id == table.c.run_id))
        .where(table.c.status == status, or_(*(runs.c.status == one for one in sorted(OPEN))))
        for table, status in ((decisions, DecisionStatus.PENDING), (tasks, TaskStatus.REVIEW))
    )
    return sum(connection.execute(number).scalar_one() for number in numbers)
