"""Pages of runs, tasks and decisions, the newest first, and what a run waits for."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, and_, case, func, or_, select, union_all

from taskpilot.domain.decisions import Decision
from taskpilot.domain.ids import smallest_id
from taskpilot.domain.notices import Incident, IncidentState, Notice, NoticeEvent, NoticeResult
from taskpilot.domain.runs import Run, RunStatus
from taskpilot.domain.steps import Step, StepKind, StepStatus
from taskpilot.domain.tasks import Task
from taskpilot.domain.times import BootTime, from_micros, to_micros
from taskpilot.store.ids import find_id
from taskpilot.store.notice_tables import incidents, notices
from taskpilot.store.notices import incident_of, notice_of
from taskpilot.store.records import decision_of, owner_of, run_of, step_of, task_of
from taskpilot.store.tables import agents, decisions, runs, steps, tasks

PREVIEW: Final = 2_000
"""Characters of a JSON value in a list; `preview` and `bytes` take the place of a longer one."""
_CLOCK_DIFFERENCE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` rows whose ids are smaller than `before`, the id of the last row of the previous page."""

    limit: int = 50
    before: str | None = None
    since: datetime | None = None
    """Only rows made at this instant or later."""
    until: datetime | None = None
    """Only rows made before this instant."""


@dataclass(frozen=True, slots=True)
class AgentInvocation:
    """One invocation of an agent."""

    scope: str
    attempt: int
    agent: str
    status: str
    started_at: datetime
    ended_at: datetime


def runs_page(connection: Connection, page: Page, *, job: str | None = None, statuses: Iterable[str] = ()) -> list[Run]:
    """Runs of a job, in some states, or all."""
    wanted = _previewed(_paged(connection, runs, page, job=job, statuses=statuses), "result")
    return [run_of(row) for row in connection.execute(wanted)]


def tasks_page(
    connection: Connection, page: Page, *, run_id: str | None = None, job: str | None = None, statuses: Iterable[str] = ()
) -> list[Task]:
    """Tasks of a run or a job, in some states, or all; a longer description is cut, as a preview is."""
    paged = _paged(connection, tasks, page, run_id=run_id, job=job, statuses=statuses)
    wanted = _shortened(paged, "description", lambda text, _size: func.substr(text, 1, PREVIEW - 1).concat("…"))
    return [task_of(row) for row in connection.execute(wanted)]


def decisions_page(
    connection: Connection,
    page: Page,
    *,
    run_id: str | None = None,
    job: str | None = None,
    statuses: Iterable[str] = (),
    verdict: str | None = None,
) -> list[Decision]:
    """Decisions of a run or a job, in some states, with a verdict, or all."""
    wanted = _previewed(_paged(connection, decisions, page, run_id=run_id, job=job, statuses=statuses, verdict=verdict), "arguments")
    return [decision_of(row) for row in connection.execute(wanted)]


def incidents_page(connection: Connection, page: Page, *, job: str | None = None, states: Iterable[IncidentState] = ()) -> list[Incident]:
    """Incidents of a job, in some states, or all."""
    wanted = _since(connection, incidents, page, incidents.c.opened_at, job=job)
    if chosen := [_STATES[state] for state in states]:
        wanted = wanted.where(or_(*chosen))
    return [incident_of(row) for row in connection.execute(wanted)]


def notices_page(connection: Connection, page: Page, *, results: Iterable[NoticeResult] = (), **equal: str | None) -> list[Notice]:
    """Notices with these column values (`channel`, `job`, `incident_id`) and some results, or all; no pings."""
    wanted = _since(connection, notices, page, notices.c.created_at, **equal)
    wanted = wanted.where(notices.c.event != NoticeEvent.PING)
    if chosen := sorted(results):
        wanted = wanted.where(notices.c.result.in_(chosen))
    return [notice_of(row) for row in connection.execute(wanted)]


_STATES: Final = {
    IncidentState.PENDING: incidents.c.closed_at.is_(None) & incidents.c.told_at.is_(None) & incidents.c.acknowledged_at.is_(None),
    IncidentState.OPEN: incidents.c.closed_at.is_(None) & incidents.c.told_at.is_not(None) & incidents.c.acknowledged_at.is_(None),
    IncidentState.ACKNOWLEDGED: incidents.c.closed_at.is_(None) & incidents.c.acknowledged_at.is_not(None),
    IncidentState.CLOSED: incidents.c.closed_at.is_not(None),
}


def _since(connection: Connection, table: Table, page: Page, made_at: Column[int], **equal: str | None) -> Select[Any]:
    """Rows of a table that a person reads page by page: there are few of them."""
    wanted = select(table)
    for name, value in equal.items():
        if value is not None:
            wanted = wanted.where(table.c[name] == value)
    if page.before is not None:
        wanted = wanted.where(table.c.id < find_id(connection, page.before, noun=table.name.removesuffix("s")))
    if page.since is not None:
        wanted = wanted.where(made_at >= to_micros(page.since))
    if page.until is not None:
        wanted = wanted.where(made_at < to_micros(page.until))
    return wanted.order_by(table.c.id.desc()).limit(page.limit)


def _previewed(paged: Select[Any], name: str) -> Select[Any]:
    """Only the begin of a larger JSON value is read: a page may have a thousand rows."""
    return _shortened(paged, name, lambda value, size: func.json_object("preview", func.substr(value, 1, PREVIEW), "bytes", size))


def _shortened(paged: Select[Any], name: str, short: Callable[[Any, Any], Any]) -> Select[Any]:
    """The page with `short(column, its length)` in the place of a longer text in a column."""
    page = paged.subquery()
    size = func.length(page.c[name])
    shown = case((size > PREVIEW, short(page.c[name], size)), else_=page.c[name]).label(name)
    return select(*(column for column in page.c if column.name != name), shown).order_by(page.c.id.desc())


def every_task(connection: Connection) -> list[Task]:
    """All tasks, the oldest first: what an export writes."""
    return [task_of(row) for row in connection.execute(select(tasks).order_by(tasks.c.id))]


def uncertain_steps(connection: Connection, run_id: str) -> list[Step]:
    """The calls about which a person has to decide: begun without a known end and not harmless to repeat, or diverged."""
    later = steps.alias("later")
    remade = select(later.c.id).where(later.c.run_id == steps.c.run_id, later.c.key == steps.c.key, later.c.make > steps.c.make)
    uncertain = or_(
        steps.c.status == StepStatus.DIVERGED,
        and_(steps.c.status == StepStatus.UNKNOWN, steps.c.kind == StepKind.CALL, steps.c.idempotent == 0),
    )
    wanted = select(steps).where(steps.c.run_id == run_id, uncertain, ~remade.exists())
    return [step_of(row) for row in connection.execute(wanted.order_by(steps.c.position))]


def agents_of(connection: Connection, run_id: str) -> list[AgentInvocation]:
    """The invocations of agents in a run, by start."""
    wanted = select(agents).where(agents.c.run_id == run_id).order_by(agents.c.started_at, agents.c.scope)
    return [
        AgentInvocation(
            scope=row.scope,
            attempt=row.attempt,
            agent=row.agent,
            status=row.status,
            started_at=from_micros(row.started_at),
            ended_at=from_micros(row.ended_at),
        )
        for row in connection.execute(wanted)
    ]


def active_until(connection: Connection, found: Sequence[Run], boot: BootTime, *, lease: timedelta) -> list[Run]:
    """The runs, the running ones with their active time until now: the store has that of the last renewal of the lease.

    Where the process is gone, it ends with the lease.
    """
    running = [run.id for run in found if run.status is RunStatus.RUNNING]
    if not running:
        return list(found)
    most = lease // timedelta(microseconds=1)
    grown = {}
    for row in connection.execute(select(runs.c.id, runs.c.lease_expires_at, runs.c.owner).where(runs.c.id.in_(running))):
        owner = owner_of(row.owner)
        if owner is not None and owner.boot_id == boot.boot_id and row.lease_expires_at is not None:
            renewed = row.lease_expires_at - most
            grown[row.id] = min(max(boot.micros - renewed, 0), most)
    return [replace(run, active_micros=run.active_micros + grown.get(run.id, 0)) for run in found]


def step_counts(connection: Connection, run_id: str) -> dict[tuple[str, str], int]:
    """How many steps of a run there are of each kind and state."""
    wanted = (
        select(steps.c.kind, steps.c.status, func.count().label("number"))
        .where(steps.c.run_id == run_id)
        .group_by(steps.c.kind, steps.c.status)
    )
    return {(row.kind, row.status): row.number for row in connection.execute(wanted)}


def _paged(connection: Connection, table: Table, page: Page, *, statuses: Iterable[str] = (), **equal: str | None) -> Select[Any]:
    """Rows of a table with these column values, by descending id: no page costs more than the first. Raises UsageError or NotFound."""
    before = None if page.before is None else find_id(connection, page.before, noun=table.name.removesuffix("s"))
    wanted = select(table)
    of_run = equal.get("run_id") is not None
    for name, value in equal.items():
        if value is not None:
            wanted = wanted.where((_unindexed(table, name) if of_run and name != "run_id" else table.c[name]) == value)
    if before is not None:
        wanted = wanted.where(table.c.id < before)
    made_at = table.c.decided_at if table is decisions else table.c.created_at
    # An id begins with the time at which it was made, so its index finds the rows; clocks of two machines may differ.
    if page.since is not None:
        wanted = wanted.where(table.c.id >= smallest_id(page.since - _CLOCK_DIFFERENCE), made_at >= to_micros(page.since))
    if page.until is not None:
        wanted = wanted.where(table.c.id < smallest_id(page.until + _CLOCK_DIFFERENCE), made_at < to_micros(page.until))
    allowed = list(dict.fromkeys(statuses))
    if allowed and of_run:
        wanted = wanted.where(_unindexed(table, "status").in_(allowed))
    elif len(allowed) == 1:
        wanted = wanted.where(table.c.status == allowed[0])
    if len(allowed) < 2 or of_run:
        return wanted.order_by(table.c.id.desc()).limit(page.limit)
    # A page of each state and the newest of them all: by `IN`, every row in these states would be sorted.
    each = (wanted.where(table.c.status == status).order_by(table.c.id.desc()).limit(page.limit) for status in allowed)
    together = union_all(*(select(one.subquery()) for one in each)).subquery()
    return select(together).order_by(together.c.id.desc()).limit(page.limit)


def _unindexed(table: Table, name: str) -> ColumnElement[str]:
    """The column as an expression that no index serves: a run's rows are few, and the run's own index is the one to take."""
    return table.c[name].concat("")
