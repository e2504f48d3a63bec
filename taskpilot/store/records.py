"""Rows as the frozen dataclasses of the domain."""

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from taskpilot.domain.decisions import Decision, DecisionStatus, Verdict, Via
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import Attempt, Owner, Run, RunStatus, TriggerKind
from taskpilot.domain.steps import Step, StepKind, StepStatus
from taskpilot.domain.tasks import Priority, Task, TaskStatus
from taskpilot.domain.text import storable
from taskpilot.domain.times import from_micros
from taskpilot.domain.usage import Spend, Usage


def moment(micros: int | None) -> datetime | None:
    """The instant, or None where none is recorded."""
    return None if micros is None else from_micros(micros)


def dumps(value: Any) -> str:
    """JSON as the store keeps it: compact, sorted, not escaped, without halves of surrogate pairs."""
    return storable(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False))


def loads(text: str | None) -> Any:
    """The value of recorded JSON; None where nothing is recorded."""
    return None if text is None else json.loads(text)


def reason_columns(reason: Reason) -> dict[str, str]:
    """A reason as columns."""
    return {"reason_code": reason.code.value, "reason_facts": dumps(dict(reason.facts)) if reason.facts else "{}"}


def reason_of(row: Row[Any]) -> Reason:
    """The reason of a row."""
    if not row.reason_code:
        return NO_REASON
    return Reason(ReasonCode(row.reason_code), loads(row.reason_facts))


def run_of(row: Row[Any]) -> Run:
    """A row of `runs`."""
    return Run(
        id=row.id,
        job=row.job,
        status=RunStatus(row.status),
        reason=reason_of(row),
        trigger=TriggerKind(row.trigger),
        scheduled_for=moment(row.scheduled_for),
        previous_fire=moment(row.previous_fire),
        previous_success=moment(row.previous_success),
        parameters=loads(row.parameters),
        model=row.model,
        trace_id=row.trace_id,
        root_span_id=row.root_span_id,
        created_at=from_micros(row.created_at),
        started_at=moment(row.started_at),
        ended_at=moment(row.ended_at),
        attempts=row.attempts,
        attempts_allowed=row.attempts_allowed,
        active_micros=row.active_micros,
        deadline_micros=row.deadline_micros,
        result=loads(row.result),
        spend=Spend(
            usage=Usage(row.input_tokens, row.cached_input_tokens, row.output_tokens),
            cost_nano=None if row.unpriced_calls else row.cost_nano,
            llm_calls=row.llm_calls,
            tool_calls=row.tool_calls,
        ),
        cancel_requested=row.cancel_requested_at is not None,
        progress_done=row.progress_done,
        progress_total=row.progress_total,
        traceparent=row.traceparent,
        cancel_grace=None if row.cancel_grace_micros is None else timedelta(microseconds=row.cancel_grace_micros),
    )


def owner_of(text: str | None) -> Owner | None:
    """The process that holds, or held, a run's lease."""
    value = loads(text)
    return None if value is None else Owner(**value)


def attempt_of(row: Row[Any]) -> Attempt:
    """A row of `attempts`."""
    return Attempt(
        id=row.id,
        run_id=row.run_id,
        number=row.number,
        status=RunStatus(row.status),
        reason=reason_of(row),
        started_at=from_micros(row.started_at),
        ended_at=moment(row.ended_at),
        active_micros=row.active_micros,
        file_digest=row.file_digest,
    )


def step_of(row: Row[Any]) -> Step:
    """A row of `steps`."""
    usage = None
    if row.input_tokens is not None:
        usage = Usage(row.input_tokens, row.cached_input_tokens, row.output_tokens)
    return Step(
        id=row.id,
        run_id=row.run_id,
        attempt=row.attempt,
        scope=row.scope,
        kind=StepKind(row.kind),
        name=row.name,
        ordinal=row.ordinal,
        key=row.key,
        make=row.make,
        status=StepStatus(row.status),
        input=loads(row.input),
        result=loads(row.result),
        error=row.error,
        error_type=row.error_type,
        started_at=from_micros(row.started_at),
        ended_at=moment(row.ended_at),
        agent=row.agent,
        model=row.model,
        usage=usage,
        cost_nano=row.cost_nano,
        reserved_nano=row.reserved_nano,
        reserved_tokens=row.reserved_tokens,
        retries=tuple(loads(row.retries) or ()),
        diverged=bool(row.diverged),
        decision_id=row.decision_id,
        idempotent=bool(row.idempotent),
        position=row.position,
    )


def task_of(row: Row[Any]) -> Task:
    """A row of `tasks`."""
    return Task(
        id=row.id,
        run_id=row.run_id,
        job=row.job,
        scope=row.scope,
        title=row.title,
        priority=Priority(row.priority),
        description=row.description,
        status=TaskStatus(row.status),
        reason=row.reason,
        created_at=from_micros(row.created_at),
        updated_at=from_micros(row.updated_at),
        reopened=row.reopened,
        repeats=row.repeats,
        expires_at=moment(row.expires_at),
        via=Via(row.via) if row.via else None,
    )


def decision_of(row: Row[Any]) -> Decision:
    """A row of `decisions`."""
    return Decision(
        id=row.id,
        run_id=row.run_id,
        job=row.job,
        step_key=row.step_key,
        agent=row.agent,
        tool=row.tool,
        arguments=loads(row.arguments),
        engine=row.engine,
        path=row.path,
        verdict=Verdict(row.verdict),
        status=DecisionStatus(row.status),
        reasons=tuple(loads(row.reasons)),
        decided_at=from_micros(row.decided_at),
        evaluation_nanoseconds=row.evaluation_nanoseconds,
        input=loads(row.input),
        settled_by=row.settled_by,
        settled_at=moment(row.settled_at),
        note=row.note,
        expires_at=moment(row.expires_at),
        via=Via(row.via) if row.via else None,
        grant_id=row.grant_id,
    )
