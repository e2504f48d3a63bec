"""Queries over tasks and decisions."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, exists, func, insert, select, update

from taskpilot.domain.decisions import Decision, DecisionStatus, Via, warned_at
from taskpilot.domain.errors import NotFound
from taskpilot.domain.events import EventKind
from taskpilot.domain.instruments import APPROVALS, POLICY_DECISIONS, TASKS
from taskpilot.domain.reasons import Reason
from taskpilot.domain.runs import RESUMABLE, RunStatus
from taskpilot.domain.tasks import Task, TaskStatus, check_transition
from taskpilot.domain.text import storable
from taskpilot.domain.times import to_micros
from taskpilot.store.events import record_event
from taskpilot.store.records import decision_of, dumps, task_of
from taskpilot.store.tables import decisions, steps, tasks
from taskpilot.store.totals import add, count, mark_dirty


def get_task(connection: Connection, task_id: str) -> Task | None:
    """One task."""
    row = connection.execute(select(tasks).where(tasks.c.id == task_id)).first()
    return None if row is None else task_of(row)


def task_at(connection: Connection, run_id: str, scope: str) -> Task | None:
    """The task that was proposed at this place of the run."""
    row = connection.execute(select(tasks).where(tasks.c.run_id == run_id, tasks.c.scope == scope)).first()
    return None if row is None else task_of(row)


def tasks_of(connection: Connection, run_id: str) -> list[Task]:
    """The run's tasks, the oldest first."""
    return [task_of(row) for row in connection.execute(select(tasks).where(tasks.c.run_id == run_id).order_by(tasks.c.id))]


def task_counts(connection: Connection, run_id: str) -> dict[str, int]:
    """The number of tasks of a run in each state."""
    wanted = select(tasks.c.status, func.count().label("number")).where(tasks.c.run_id == run_id).group_by(tasks.c.status)
    counts = {row.status: row.number for row in connection.execute(wanted)}
    return {status.value: counts[status] for status in TaskStatus if status in counts}


def insert_task(connection: Connection, task: Task) -> None:
    """Records a proposed task and counts it."""
    add(connection, task.job, [count(TASKS, status=task.status)])
    connection.execute(
        insert(tasks).values(
            id=task.id,
            run_id=task.run_id,
            job=task.job,
            scope=task.scope,
            title=storable(task.title),
            priority=task.priority,
            description=storable(task.description),
            status=task.status,
            reason=task.reason,
            created_at=to_micros(task.created_at),
            updated_at=to_micros(task.updated_at),
        )
    )


def move_task(
    connection: Connection,
    task_id: str,
    after: TaskStatus,
    *,
    reason: str | None,
    now: datetime,
    repeat: bool = False,
    expires_at: datetime | None = None,
    via: Via | None = None,
) -> Task:
    """Changes a task's state and counts it; without a `reason` it keeps the one that it has.

    With `repeat`, a failed task that is approved again may repeat its recorded effects. `expires_at`: until when a person may review it.

    Raises NotFound, or TransitionRefused where it may not go there.
    """
    task = get_task(connection, task_id)
    if task is None:
        raise NotFound(f"there is no task {task_id}", hint="taskpilot tasks list")
    check_transition(task.id, task.status, after)
    reopened = task.reopened + (task.status is TaskStatus.FAILED)
    why = task.reason if reason is None else storable(reason)
    repeats = reopened if repeat else task.repeats
    values: dict[str, Any] = {"status": after, "reason": why, "updated_at": to_micros(now), "reopened": reopened, "repeats": repeats}
    if after is TaskStatus.REVIEW:
        values |= _open_until(now, expires_at)
        task = replace(task, expires_at=expires_at)
    if via is not None:
        values["via"] = via
    connection.execute(update(tasks).where(tasks.c.id == task_id).values(values))
    add(connection, task.job, [count(TASKS, status=after)])
    if after is TaskStatus.REVIEW:
        record_event(connection, EventKind.APPROVAL_ASKED, task.job, at=now, run_id=task.run_id, subject=task.id, reason=task.question)
    return replace(task, status=after, reason=why, updated_at=now, reopened=reopened, repeats=repeats, via=via or task.via)


def _open_until(asked_at: datetime, expires_at: datetime | None) -> dict[str, int | None]:
    """The columns of a question to a person."""
    warn_at = None if expires_at is None else to_micros(warned_at(asked_at, expires_at))
    return {"expires_at": None if expires_at is None else to_micros(expires_at), "warn_at": warn_at}


def may_resume(connection: Connection, run_id: str, status: RunStatus) -> bool:
    """Whether `runs resume` continues a run that has ended or waits; also one that succeeded, where a task was approved since."""
    return status in RESUMABLE or (status is RunStatus.SUCCEEDED and has_approved(connection, run_id))


def has_approved(connection: Connection, run_id: str) -> bool:
    """Whether a task of the run's workflows is approved and not executed yet; those that the job's own code proposed are for people."""
    open_work = (tasks.c.status == TaskStatus.APPROVED) & ~tasks.c.scope.like("%/filed.%")
    wanted = select(tasks.c.id).where(tasks.c.run_id == run_id, open_work).limit(1)
    return connection.execute(wanted).first() is not None


def get_decision(connection: Connection, decision_id: str) -> Decision | None:
    """One decision."""
    row = connection.execute(select(decisions).where(decisions.c.id == decision_id)).first()
    return None if row is None else decision_of(row)


def approval_of(connection: Connection, run_id: str, step_key: str) -> Decision | None:
    """The decision with the question to a person about exactly this call."""
    asked = decisions.c.status != DecisionStatus.FINAL
    wanted = select(decisions).where(decisions.c.run_id == run_id, decisions.c.step_key == step_key, asked)
    row = connection.execute(wanted.order_by(decisions.c.id.desc())).first()
    return None if row is None else decision_of(row)


def asked_of(connection: Connection, run_id: str) -> list[Decision]:
    """The run's decisions about which a person was asked, the oldest first."""
    wanted = select(decisions).where(decisions.c.run_id == run_id, decisions.c.status != DecisionStatus.FINAL)
    return [decision_of(row) for row in connection.execute(wanted.order_by(decisions.c.id))]


def decisions_of(connection: Connection, run_id: str) -> list[Decision]:
    """The run's decisions, the oldest first."""
    return [decision_of(row) for row in connection.execute(select(decisions).where(decisions.c.run_id == run_id).order_by(decisions.c.id))]


def insert_decision(connection: Connection, decision: Decision) -> None:
    """Records a verdict and counts it."""
    add(connection, decision.job, [count(POLICY_DECISIONS, engine=decision.engine, decision=decision.verdict)])
    connection.execute(
        insert(decisions).values(
            id=decision.id,
            run_id=decision.run_id,
            job=decision.job,
            step_key=decision.step_key,
            agent=decision.agent,
            tool=decision.tool,
            arguments=dumps(decision.arguments),
            engine=decision.engine,
            path=decision.path,
            verdict=decision.verdict,
            status=decision.status,
            reasons=dumps(list(decision.reasons)),
            input=dumps(decision.input),
            decided_at=to_micros(decision.decided_at),
            evaluation_nanoseconds=decision.evaluation_nanoseconds,
            settled_by=decision.settled_by,
            settled_at=None if decision.settled_at is None else to_micros(decision.settled_at),
            note=decision.note,
            via=decision.via,
            grant_id=decision.grant_id,
            **_open_until(decision.decided_at, decision.expires_at),
        )
    )
    if decision.status is DecisionStatus.PENDING:
        record_event(
            connection,
            EventKind.APPROVAL_ASKED,
            decision.job,
            at=decision.decided_at,
            run_id=decision.run_id,
            subject=decision.id,
            reason=decision.question,
        )


def settle_decision(
    connection: Connection, decision: Decision, *, status: DecisionStatus, by: str | None, note: str, now: datetime, via: Via
) -> Decision:
    """Records a person's answer, or that there was none, and counts it; gives the decision after it."""
    answered = replace(decision, status=status, settled_by=by and storable(by), settled_at=now, note=storable(note), via=via)
    values = {"status": status, "settled_by": answered.settled_by, "settled_at": to_micros(now), "note": answered.note, "via": via}
    connection.execute(update(decisions).where(decisions.c.id == decision.id).values(**values))
    add(connection, decision.job, [count(APPROVALS, verdict=status)])
    return answered


def next_expiry(connection: Connection) -> int | None:
    """When the next question expires or its warning is due, in microseconds; None where nothing is asked."""
    soonest: list[int] = []
    for table, status in _ASKED:
        found = select(func.min(table.c.expires_at), func.min(table.c.warn_at)).where(
            table.c.status == status, table.c.expires_at.is_not(None)
        )
        soonest += [micros for micros in connection.execute(found).one() if micros is not None]
    return min(soonest, default=None)


def open_questions(
    connection: Connection, *, due: datetime | None = None, job: str | None = None, run_id: str | None = None
) -> list[Decision | Task]:
    """What waits for a person and can expire: of a job, of a run, or of all; with `due` what expires or is to be warned of until then."""
    found: list[Decision | Task] = []
    for table, status in _ASKED:
        wanted = select(table).where(table.c.status == status, table.c.expires_at.is_not(None))
        if due is not None:
            wanted = wanted.where((table.c.expires_at <= to_micros(due)) | (table.c.warn_at <= to_micros(due)))
        if job is not None:
            wanted = wanted.where(table.c.job == job)
        if run_id is not None:
            wanted = wanted.where(table.c.run_id == run_id)
        rows = connection.execute(wanted.order_by(table.c.id))
        found += [decision_of(row) if table is decisions else task_of(row) for row in rows]
    return found


def mark_warned(connection: Connection, question: Decision | Task) -> bool:
    """Notes that a person is warned of the expiry; False where that was noted before."""
    table = decisions if isinstance(question, Decision) else tasks
    due = update(table).where(table.c.id == question.id, table.c.warn_at.is_not(None))
    return connection.execute(due.values(warn_at=None)).rowcount == 1


def expire_question(connection: Connection, question: Decision | Task, *, now: datetime) -> None:
    """Records that nobody answered in time."""
    if isinstance(question, Decision):
        settle_decision(connection, question, status=DecisionStatus.EXPIRED, by=None, note="", now=now, via=Via.EXPIRY)
    else:
        move_task(connection, question.id, TaskStatus.REJECTED, reason="nobody answered", now=now, via=Via.EXPIRY)
        add(connection, question.job, [count(APPROVALS, verdict=DecisionStatus.EXPIRED)])
    mark_dirty(connection, question.job)
    event = EventKind.APPROVAL_EXPIRED
    record_event(connection, event, question.job, at=now, run_id=question.run_id, subject=question.id, reason=question.expiry)


def expired_of(connection: Connection, run_id: str) -> Reason | None:
    """Why a run ends denied, where nobody answered one of its questions."""
    wanted = select(decisions).where(decisions.c.run_id == run_id, decisions.c.status.concat("") == DecisionStatus.EXPIRED)
    if (row := connection.execute(wanted.order_by(decisions.c.id).limit(1)).first()) is not None:
        return decision_of(row).expiry
    rejected = select(tasks).where(tasks.c.run_id == run_id, tasks.c.via == Via.EXPIRY)
    row = connection.execute(rejected.order_by(tasks.c.id).limit(1)).first()
    return None if row is None else task_of(row).expiry


def has_unused_approval(connection: Connection, run_id: str) -> bool:
    """Whether a person allowed something that has not been done yet."""
    used = exists().where(steps.c.run_id == run_id, steps.c.decision_id == decisions.c.id)
    approved = decisions.c.status.concat("") == DecisionStatus.APPROVED
    wanted = select(decisions.c.id).where(decisions.c.run_id == run_id, approved, ~used).limit(1)
    return connection.execute(wanted).first() is not None or has_approved(connection, run_id)


_ASKED: Final = ((decisions, DecisionStatus.PENDING), (tasks, TaskStatus.REVIEW))


def pending_decisions(connection: Connection, run_id: str) -> list[Decision]:
    """The decisions of a run that wait for a person."""
    wanted = select(decisions).where(decisions.c.run_id == run_id, decisions.c.status == DecisionStatus.PENDING)
    return [decision_of(row) for row in connection.execute(wanted.order_by(decisions.c.id))]
