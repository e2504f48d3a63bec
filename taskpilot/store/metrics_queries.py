"""Queries of the metrics, and the recorded delivery of gateway groups."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from taskpilot.domain.decisions import DecisionStatus
from taskpilot.domain.runs import OPEN, RESUMABLE
from taskpilot.domain.tasks import TaskStatus
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.tables import decisions, job_state, runs, tasks, totals

_MAY_GO_ON: Final = tuple(sorted(status.value for status in OPEN | RESUMABLE))
_WAITING: Final = tuple(
    select(table.c.job, func.count())
    .join(runs, runs.c.id == table.c.run_id)
    .where(table.c.status == status.value, runs.c.status.in_(_MAY_GO_ON))
    .group_by(table.c.job)
    for table, status in ((decisions, DecisionStatus.PENDING), (tasks, TaskStatus.REVIEW))
)
_SELECT_NEWEST: Final = select(runs).where(runs.c.job == bindparam("the_job")).order_by(runs.c.id.desc()).limit(1)

LATE_PUSH: Final = timedelta(seconds=30)
"""A push that timed out may still arrive this much later, so that only a push after it is known to be the newest."""


@dataclass(frozen=True, slots=True)
class Total:
    """One running total, in 1/scale of its metric's unit."""

    job: str
    metric: str
    labels: dict[str, str]
    value: int


def totals_of(connection: Connection, job: str | None) -> list[Total]:
    """The running totals of one job, or of all."""
    query = select(totals.c.job, totals.c.metric, totals.c.labels, totals.c.value)
    if job is not None:
        query = query.where(totals.c.job == job)
    found: list[Total] = []
    for row in connection.execute(query):
        try:
            labels = json.loads(row.labels)
        except ValueError:
            continue
        if isinstance(labels, dict):
            found.append(Total(row.job, row.metric, {str(name): str(value) for name, value in labels.items()}, row.value))
    return found


def states_of(connection: Connection, job: str | None) -> list[Row[Any]]:
    """The last values of one job, or of all: rows of `job_state`."""
    query = select(job_state)
    if job is not None:
        query = query.where(job_state.c.job == job)
    return list(connection.execute(query))


def pending_approvals(connection: Connection, job: str | None) -> dict[str, int]:
    """How many decisions and reviews of each job wait for a person; jobs with none are left out.

    Those of a cancelled run, which cannot continue, do not count.
    """
    waiting: dict[str, int] = {}
    for query in _WAITING:
        wanted = query if job is None else query.where(query.selected_columns.job == job)
        for name, count in connection.execute(wanted):
            waiting[name] = waiting.get(name, 0) + count
    return waiting


def pending_jobs(connection: Connection, now: datetime) -> list[str]:
    """Jobs whose gateway group is not known to hold the newest values, those first whose push did not time out lately."""
    late = to_micros(now - LATE_PUSH)
    query = select(job_state.c.job, job_state.c.push_timed_out_at).where(
        or_(job_state.c.version > job_state.c.pushed_version, job_state.c.push_timed_out_at.is_not(None))
    )
    rows = sorted(connection.execute(query), key=lambda row: ((row.push_timed_out_at or 0) > late, row.job))
    return [row.job for row in rows]


def record_delivered(connection: Connection, job: str, version: int, now: datetime) -> bool:
    """Records that the gateway answered 200 to the totals of `version`. True where the job is still pending.

    While an earlier push that timed out may still land, the group stays pending.
    """
    row = connection.execute(select(job_state.c.version, job_state.c.push_timed_out_at).where(job_state.c.job == job)).first()
    if row is None:
        return False
    if row.push_timed_out_at is not None and now - from_micros(row.push_timed_out_at) < LATE_PUSH:
        connection.execute(update(job_state).where(job_state.c.job == job).values(push_error=None))
        return True
    values = {"pushed_version": func.max(job_state.c.pushed_version, version), "push_timed_out_at": None, "push_error": None}
    connection.execute(update(job_state).where(job_state.c.job == job).values(values))
    return bool(row.version > version)


def record_failed(connection: Connection, job: str, error: str, *, timed_out_at: datetime | None) -> None:
    """Records why the job's group could not be pushed, and when, where the push may still arrive."""
    values: dict[str, Any] = {"push_error": error}
    if timed_out_at is not None:
        values["push_timed_out_at"] = to_micros(timed_out_at)
    statement = insert(job_state).values(job=job, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["job"], set_=values))


def record_removed(connection: Connection, job: str) -> None:
    """Records that the job's group was deleted on purpose: nothing of it is pending until its ledger changes."""
    values = {"pushed_version": job_state.c.version, "push_timed_out_at": None, "push_error": None}
    connection.execute(update(job_state).where(job_state.c.job == job).values(values))


def last_runs(connection: Connection, jobs: Iterable[str]) -> dict[str, Row[Any]]:
    """The newest run of each job, as a row of `runs`."""
    newest = ((job, connection.execute(_SELECT_NEWEST, {"the_job": job}).first()) for job in jobs)
    return {job: row for job, row in newest if row is not None}
