"""The spans of a run's attempts: workflow > attempt > agent > chat, tool, named step and policy decision."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from taskpilot.domain.decisions import Verdict
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import NOTES, StepKind, StepStatus
from taskpilot.domain.usage import NANO_PER_USD
from taskpilot.signals.traces import names
from taskpilot.signals.traces.ids import span_id_of
from taskpilot.store.trace_queries import RunRecord

_SCOPE: Final = InstrumentationScope("taskpilot")
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_WELL: Final = frozenset({RunStatus.SUCCEEDED.value, RunStatus.WAITING.value})


def resource_of(deployment: str, store_id: str, given: Mapping[str, str]) -> Resource:
    """Who the spans come from, `given` by the settings; the environment is not asked."""
    return Resource({names.SERVICE_NAME: "taskpilot", **given, names.DEPLOYMENT: deployment, names.STORE_ID: store_id})


def spans_of(record: RunRecord, resource: Resource, *, rows_max: int) -> list[ReadableSpan]:
    """Every span of the attempts in the record, and the run's root span where it was not written before.

    Times are nanoseconds since the epoch. No prompt, argument or result is in them. Raises ValueError where the record's ids are no ids.
    """
    return _Tree(record, resource, rows_max).spans()


class _Tree:
    def __init__(self, record: RunRecord, resource: Resource, rows_max: int) -> None:
        self._record = record
        self._run = record.run
        self._resource = resource
        self._trace_id = int(record.run.trace_id, 16)
        self._root = self._context(record.run.root_span_id)
        self._cut = max(len(record.steps), len(record.agents), len(record.decisions)) >= rows_max
        self._ends = {row.number: row.ended_at for row in record.attempts}
        self._agents = {(row.attempt, row.scope): row for row in record.agents}
        self._scopes = {row.key: row.scope for row in record.steps}

    def spans(self) -> list[ReadableSpan]:
        spans = [] if self._record.root_written else [self._root_span()]
        spans += [self._attempt_span(row) for row in self._record.attempts if row.number > 1]
        spans += [self._agent_span(row) for row in self._record.agents]
        spans += [self._step_span(row) for row in self._record.steps if row.kind not in NOTES]
        spans += [self._decision_span(row, attempt) for row in self._record.decisions if (attempt := self._attempt_at(row.decided_at))]
        return spans

    def _root_span(self) -> ReadableSpan:
        run = self._run
        ends = [end for end in self._ends.values() if end is not None]
        attributes = {
            names.OPERATION: names.INVOKE_WORKFLOW,
            names.WORKFLOW: run.job,
            names.RUN_ID: run.id,
            names.RUN_JOB: run.job,
            names.RUN_STATUS: run.status,
            names.RUN_REASON: run.reason or None,
            names.RUN_TRIGGER: run.trigger,
            names.RUN_ATTEMPTS: run.attempts,
            names.RUN_COST: None if run.unpriced_calls else run.cost_nano / NANO_PER_USD,
            names.RUN_LLM_CALLS: run.llm_calls,
            names.RUN_TOOL_CALLS: run.tool_calls,
            names.INPUT_TOKENS: run.input_tokens,
            names.CACHED_INPUT_TOKENS: run.cached_input_tokens,
            names.OUTPUT_TOKENS: run.output_tokens,
            names.SPANS_LEFT_OUT: True if self._cut else None,
        }
        start = min(row.started_at for row in self._record.attempts)
        name = f"{names.INVOKE_WORKFLOW} {run.job}"
        return self._span(name, self._root, self._caller(), (start, max(ends, default=start)), attributes, _status(run.status, run.reason))

    def _attempt_span(self, row: Any) -> ReadableSpan:
        attributes = {
            names.RUN_ID: self._run.id,
            names.RUN_JOB: self._run.job,
            names.RUN_ATTEMPT: row.number,
            names.RUN_STATUS: row.status,
            names.RUN_REASON: row.reason or None,
        }
        before = Link(self._attempt_context(row.number - 1))
        times = (row.started_at, row.ended_at)
        context = self._attempt_context(row.number)
        return self._span(f"attempt {row.number}", context, self._root, times, attributes, _status(row.status, row.reason), links=[before])

    def _agent_span(self, row: Any) -> ReadableSpan:
        attributes = {
            names.OPERATION: names.INVOKE_AGENT,
            names.AGENT: row.agent,
            names.RUN_ID: self._run.id,
            names.RUN_ATTEMPT: row.attempt,
            names.STEP_SCOPE: row.scope,
            names.STEP_STATUS: row.status,
        }
        parent = self._parent(row.attempt, row.scope.rpartition("/")[0], None) if row.scope else self._attempt_context(row.attempt)
        times = (row.started_at, row.ended_at)
        return self._span(f"{names.INVOKE_AGENT} {row.agent}", self._agent_context(row), parent, times, attributes, _status(row.status, ""))

    def _step_span(self, row: Any) -> ReadableSpan:
        attributes: dict[str, Any] = {
            names.RUN_ID: self._run.id,
            names.RUN_ATTEMPT: row.attempt,
            names.STEP_ID: row.id,
            names.STEP_SCOPE: row.scope,
            names.STEP_STATUS: row.status,
            names.AGENT: row.agent,
            names.ERROR_TYPE: row.error_type,
            names.DECISION_ID: row.decision_id,
            names.STEP_DIVERGED: True if row.diverged else None,
        }
        name, kind = row.name, SpanKind.INTERNAL
        if row.kind == StepKind.ASK:
            name, kind = f"{names.CHAT} {row.model}" if row.model else names.CHAT, SpanKind.CLIENT
            attributes |= {
                names.OPERATION: names.CHAT,
                names.PROVIDER: names.provider(row.model),
                names.REQUEST_MODEL: row.model,
                names.INPUT_TOKENS: row.input_tokens,
                names.CACHED_INPUT_TOKENS: row.cached_input_tokens,
                names.OUTPUT_TOKENS: row.output_tokens,
                names.STEP_COST: None if row.cost_nano is None else row.cost_nano / NANO_PER_USD,
                names.STEP_RETRIES: _length(row.retries),
            }
        elif row.kind == StepKind.CALL:
            name = f"{names.EXECUTE_TOOL} {row.name}"
            attributes |= {names.OPERATION: names.EXECUTE_TOOL, names.TOOL: row.name, names.TOOL_CALL_ID: row.id}
        parent = self._parent(row.attempt, row.scope, row.agent)
        times = (row.started_at, row.ended_at or self._ends.get(row.attempt))
        return self._span(name, self._context(span_id_of(row.id)), parent, times, attributes, _step_status(row), kind=kind)

    def _decision_span(self, row: Any, attempt: int) -> ReadableSpan:
        attributes = {
            names.RUN_ID: self._run.id,
            names.AGENT: row.agent,
            names.TOOL: row.tool,
            names.DECISION_ID: row.id,
            names.DECISION_VERDICT: row.verdict,
            names.DECISION_ENGINE: row.engine,
        }
        # The decision comes before the call's step begins, and a denied call may have none: it stands beside the call.
        scope = self._scopes.get(row.step_key)
        parent = self._attempt_context(attempt) if scope is None else self._parent(attempt, scope, row.agent)
        context = self._context(span_id_of(row.id))
        status = Status(StatusCode.OK if row.verdict == Verdict.ALLOW else StatusCode.UNSET)
        took = max(row.evaluation_nanoseconds, 0)
        return self._span(f"policy {row.path}", context, parent, (row.decided_at, row.decided_at), attributes, status, before=took)

    def _parent(self, attempt: int, scope: str, agent: str | None) -> SpanContext:
        """The agent's work whose scope holds this place most closely, else the attempt."""
        while True:
            row = self._agents.get((attempt, scope))
            if row is not None and (agent is None or row.agent == agent):
                return self._agent_context(row)
            if not scope:
                return self._attempt_context(attempt)
            scope = scope.rpartition("/")[0]

    def _attempt_at(self, moment: int) -> int | None:
        return next((row.number for row in self._record.attempts if row.started_at <= moment <= row.ended_at), None)

    def _attempt_context(self, number: int) -> SpanContext:
        return self._context(span_id_of(f"{self._run.id}/attempt/{number}")) if number > 1 else self._root

    def _agent_context(self, row: Any) -> SpanContext:
        return self._context(span_id_of(f"{row.run_id}/agent/{row.attempt}/{row.scope}"))

    def _context(self, span_id: str) -> SpanContext:
        return SpanContext(self._trace_id, int(span_id, 16), is_remote=False, trace_flags=_SAMPLED)

    def _caller(self) -> SpanContext | None:
        """The span that started the run, where a traceparent came with it."""
        parts = (self._run.traceparent or "").split("-")
        if len(parts) != 4 or parts[1] != self._run.trace_id:
            return None
        return SpanContext(self._trace_id, int(parts[2], 16), is_remote=True, trace_flags=_SAMPLED)

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        times: tuple[int, int | None],
        attributes: Mapping[str, Any],
        status: Status,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
        before: int = 0,
    ) -> ReadableSpan:
        """`times` are microseconds, as the store has them; `before` are nanoseconds that the span began earlier."""
        start, end = times
        return ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes={key: value for key, value in attributes.items() if value is not None},
            links=links,
            kind=kind,
            status=status,
            start_time=start * 1000 - before,
            end_time=max(start, end if end is not None else start) * 1000,
            instrumentation_scope=_SCOPE,
        )


def batches(spans: Sequence[ReadableSpan], size: int) -> Iterable[Sequence[ReadableSpan]]:
    """The spans in pieces that a collector takes in one request."""
    return (spans[start : start + size] for start in range(0, len(spans), size))


def _status(status: str, reason: str) -> Status:
    if status == RunStatus.SUCCEEDED:
        return Status(StatusCode.OK)
    return Status(StatusCode.UNSET) if status in _WELL else Status(StatusCode.ERROR, reason or status)


def _step_status(row: Any) -> Status:
    if row.status == StepStatus.SUCCEEDED:
        return Status(StatusCode.OK)
    # The error's text may quote a prompt or an argument; its type does not.
    return Status(StatusCode.ERROR, row.error_type or row.status)


def _length(retries: str | None) -> int | None:
    try:
        return len(json.loads(retries)) if retries else None
    except (ValueError, TypeError):
        return None
