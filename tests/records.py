"""Rows for tests that read the record: runs, tasks, decisions and steps, put in without running anything."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from taskpilot.domain.decisions import Decision, DecisionStatus, Verdict
from taskpilot.domain.ids import new_id
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import LeaseGrant, RunStatus
from taskpilot.domain.steps import Step, StepKind, StepStatus
from taskpilot.domain.tasks import Priority, Task, TaskStatus
from taskpilot.domain.times import boot_time, to_micros
from taskpilot.domain.usage import Usage
from taskpilot.store import runs, steps, tasks
from taskpilot.store.database import Store
from taskpilot.store.records import dumps, reason_columns

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def raised(error: str, error_type: str = "ValueError") -> Reason:
    """Why a job failed that raised an exception."""
    return Reason(ReasonCode.EXCEPTION, {"error_type": error_type, "error": error})


def newest_first(ids: Iterable[str]) -> list[str]:
    """Ids as lists have them; those of one millisecond have no order but their own."""
    return sorted(ids, reverse=True)


def add_run(
    store: Store,
    *,
    job: str = "triage",
    status: RunStatus = RunStatus.SUCCEEDED,
    reason: Reason = NO_REASON,
    result: Any = "2 requests handled",
    **columns: Any,
) -> str:
    """A run with one attempt of two seconds; gives its id."""
    run_id = new_id()
    values = {
        "id": run_id,
        "job": job,
        "status": status,
        "trigger": "manual",
        "parameters": "{}",
        "model": "gpt-4o-mini",
        "trace_id": "ab" * 16,
        "root_span_id": "cd" * 8,
        "created_at": to_micros(NOON),
        "started_at": to_micros(NOON),
        "ended_at": to_micros(NOON + timedelta(seconds=2)),
        "attempts": 1,
        "attempts_allowed": 1,
        "active_micros": 2_000_000,
        "deadline_micros": 3_600_000_000,
        "result": None if result is None else dumps(result),
        "input_tokens": 1_200,
        "cached_input_tokens": 1_024,
        "output_tokens": 30,
        "cost_nano": 2_020_000,
        "llm_calls": 3,
        "tool_calls": 1,
        **reason_columns(reason),
        **columns,
    }
    grant = LeaseGrant(run_id=run_id, attempt_id=new_id(), attempt=1, token="t", expires_at=boot_time() + timedelta(hours=1))
    with store.write() as connection:
        runs.insert_run(connection, values)
        runs.insert_attempt(connection, grant, started_at=NOON, file_digest="")
        runs.close_attempt(
            connection, grant.attempt_id, status=status, ended_at=to_micros(NOON + timedelta(seconds=2)), active_micros=2_000_000
        )
    return run_id


def add_task(
    store: Store, run_id: str, *, title: str = "Reset the password of Ms Weber", status: TaskStatus = TaskStatus.EXECUTED, **fields: Any
) -> str:
    """A task of a run; gives its id."""
    task = Task(
        id=new_id(),
        run_id=run_id,
        job="triage",
        scope=f"/workflow.0/task.{new_id()}",
        title=title,
        priority=Priority.HIGH,
        description="",
        status=status,
        reason="",
        created_at=NOON,
        updated_at=NOON,
    )
    task = replace(task, **fields)
    with store.write() as connection:
        tasks.insert_task(connection, task)
    return task.id


def add_decision(
    store: Store,
    run_id: str,
    *,
    tool: str = "create_task",
    verdict: Verdict = Verdict.REQUIRE_APPROVAL,
    reasons: Sequence[str] = ("it says sensitive",),
    **fields: Any,
) -> str:
    """A decision of a run that waits for a person, unless told otherwise; gives its id."""
    decision = Decision(
        id=new_id(),
        run_id=run_id,
        job="triage",
        step_key=new_id(),
        agent="executor",
        tool=tool,
        arguments={"title": "x"},
        engine="regorus",
        path="taskpilot/tools",
        verdict=verdict,
        status=DecisionStatus.PENDING if verdict is Verdict.REQUIRE_APPROVAL else DecisionStatus.FINAL,
        reasons=tuple(reasons),
        decided_at=NOON,
    )
    decision = replace(decision, **fields)
    with store.write() as connection:
        tasks.insert_decision(connection, decision)
    return decision.id


def add_step(
    store: Store,
    run_id: str,
    *,
    kind: StepKind = StepKind.CALL,
    name: str = "open_ticket",
    status: StepStatus = StepStatus.UNKNOWN,
    **fields: Any,
) -> str:
    """A step of a run's first attempt: an uncertain call, unless told otherwise; gives its id."""
    step = Step(
        id=new_id(),
        run_id=run_id,
        attempt=1,
        scope="/workflow.0/executor.0",
        kind=kind,
        name=name,
        ordinal=0,
        key=new_id(),
        make=0,
        status=status,
        input={"title": "x"},
        result=None,
        error=None,
        error_type=None,
        started_at=NOON + timedelta(seconds=1),
        ended_at=NOON + timedelta(seconds=2),
        usage=Usage(),
        idempotent=False,
    )
    step = replace(step, **fields)
    with store.write() as connection:
        steps.insert_step(connection, step, input_digest="")
    return step.id


def add_agent(store: Store, run_id: str, agent: str, scope: str) -> None:
    """An agent that was at work for the whole of the run's first attempt."""
    with store.write() as connection:
        steps.record_agent(
            connection,
            run_id=run_id,
            scope=scope,
            attempt=1,
            agent=agent,
            status="succeeded",
            started_at=NOON,
            ended_at=NOON + timedelta(seconds=2),
        )
