"""The spans of a run's attempts: workflow > attempt > agent > chat, tool, named step and policy decision."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from taskpilot.domain.decisions import Verdict
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import NOTES, StepKind, StepStatus
from taskpilot.domain.usage import NANO_PER_USD
from taskpilot.store.trace_queries import RunRecord
from taskpilot.telemetry.traces import names
from taskpilot.telemetry.traces.content import Content
from taskpilot.telemetry.traces.names import span_id_of
from taskpilot.telemetry.traces.span import Code, Kind, Link, Span

_NO_ERROR: Final = frozenset({RunStatus.SUCCEEDED.value, RunStatus.WAITING.value})


_Status = tuple[Code, str | None]
"""With the error, where there was one."""


def resource_of(deployment: str, store_id: str, given: Mapping[str, str]) -> dict[str, str]:
    """The resource of the spans, with what the settings give; the environment is not read."""
    return {names.SERVICE_NAME: "taskpilot", **given, names.DEPLOYMENT: deployment, names.STORE_ID: store_id}


def spans_of(record: RunRecord, resource: Mapping[str, str], *, rows_max: int, content: Content | None = None) -> list[Span]:
    """Every span of the attempts in the record, and the run's root span with the first of them.

    Times are nanoseconds since the epoch. Without `content` no prompt, argument or result is in them. Raises ValueError where the record's
    ids are no ids.
    """
    return _Tree(record, resource, rows_max, content).spans()


class _Tree:
    def __init__(self, record: RunRecord, resource: Mapping[str, str], rows_max: int, content: Content | None) -> None:
        self._record = record
        self._content = content
        self._run = record.run
        self._resource = resource
        self._trace_id = _hex(record.run.trace_id, 32)
        self._root = _hex(record.run.root_span_id, 16)
        self._cut = max(len(record.steps), len(record.agents), len(record.decisions)) >= rows_max
        self._ends = {row.number: row.ended_at for row in record.attempts}
        self._agents = {(row.attempt, row.scope): row for row in record.agents}
        self._scopes = {row.key: row.scope for row in record.steps}

    def spans(self) -> list[Span]:
        spans = [self._root_span()] if self._record.has_first else []
        spans += [self._attempt_span(row) for row in self._record.attempts if row.number > 1]
        spans += [self._agent_span(row) for row in self._record.agents]
        spans += [self._step_span(row) for row in self._record.steps if row.kind not in NOTES]
        spans += [self._decision_span(row, attempt) for row in self._record.decisions if (attempt := self._attempt_at(row.decided_at))]
        return spans

    def _root_span(self) -> Span:
        run = self._run
        # While a later attempt runs, the run's status does not show how the earlier ones ended.
        status_row = self._record.attempts[-1] if self._record.is_at_work else run
        status = _status(status_row.status, status_row.reason_code)
        attributes = {
            names.OPERATION: names.INVOKE_WORKFLOW,
            names.AGENT: run.job,
            names.WORKFLOW: run.job,
            names.RUN_TRIGGER: run.trigger,
            **self._outcome(status_row),
            **self._totals(),
            names.SPANS_LEFT_OUT: True if self._cut else None,
        }
        start = min(row.started_at for row in self._record.attempts)
        name = f"{names.INVOKE_WORKFLOW} {run.job}"
        caller = self._caller()
        times = (start, max((end for end in self._ends.values() if end is not None), default=start))
        return self._span(name, self._root, caller, times, attributes, status, remote=caller is not None)

    def _attempt_span(self, row: Any) -> Span:
        # The root span may have been delivered hours ago: the newest attempt has the run's totals.
        newest = row.number == self._run.attempts and not self._record.is_at_work
        attributes = {names.RUN_ATTEMPT: row.number, **self._outcome(row), **(self._totals() if newest else {})}
        links = [Link(self._attempt_id(row.number - 1)), *self._approvals_before(row)]
        times = (row.started_at, row.ended_at)
        own, status = self._attempt_id(row.number), _status(row.status, row.reason_code)
        return self._span(f"attempt {row.number}", own, self._root, times, attributes, status, links=links)

    def _approvals_before(self, row: Any) -> list[Link]:
        """The decisions of persons that this attempt is the first to continue after."""
        since = max((other.started_at for other in self._record.ended if other.number < row.number), default=0)
        return [
            Link(span_id_of(one.id), {names.DECISION_ID: one.id, names.DECISION_STATUS: one.status})
            for one in self._record.decisions
            if one.settled_at is not None and since < one.settled_at <= row.started_at
        ]

    def _outcome(self, row: Any) -> dict[str, Any]:
        """How a run or an attempt ended."""
        failed = row.status not in _NO_ERROR
        return {
            names.RUN_ID: self._run.id,
            names.RUN_JOB: self._run.job,
            names.CONVERSATION: self._run.id,
            names.RUN_STATUS: row.status,
            names.RUN_REASON: row.reason_code or None,
            names.ERROR_TYPE: (row.reason_code or row.status) if failed else None,
        }

    def _totals(self) -> dict[str, Any]:
        """The totals of all attempts of the run."""
        run = self._run
        return {
            names.RUN_ATTEMPTS: run.attempts,
            names.RUN_COST: None if run.unpriced_calls else run.cost_nano / NANO_PER_USD,
            names.RUN_LLM_CALLS: run.llm_calls,
            names.RUN_TOOL_CALLS: run.tool_calls,
            names.INPUT_TOKENS: run.input_tokens,
            names.CACHED_INPUT_TOKENS: run.cached_input_tokens,
            names.OUTPUT_TOKENS: run.output_tokens,
        }

    def _agent_span(self, row: Any) -> Span:
        attributes = {
            names.OPERATION: names.INVOKE_AGENT,
            names.AGENT: row.agent,
            names.RUN_ID: self._run.id,
            names.RUN_ATTEMPT: row.attempt,
            names.STEP_SCOPE: row.scope,
            names.STEP_STATUS: row.status,
            names.ERROR_TYPE: None if row.status in _NO_ERROR else row.status,
            names.CONVERSATION: self._run.id,
        }
        parent = self._parent(row.attempt, row.scope.rpartition("/")[0], None) if row.scope else self._attempt_id(row.attempt)
        times = (row.started_at, row.ended_at)
        return self._span(f"{names.INVOKE_AGENT} {row.agent}", self._agent_id(row), parent, times, attributes, _status(row.status, ""))

    def _step_span(self, row: Any) -> Span:
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
        name, kind, retries = row.name, Kind.INTERNAL, _texts(row.retries)
        if row.kind == StepKind.ASK:
            name, kind = f"{names.CHAT} {row.model}" if row.model else names.CHAT, Kind.CLIENT
            attributes |= {
                names.OPERATION: names.CHAT,
                names.PROVIDER: names.provider(row.model),
                names.REQUEST_MODEL: row.model,
                names.INPUT_TOKENS: row.input_tokens,
                names.CACHED_INPUT_TOKENS: row.cached_input_tokens,
                names.OUTPUT_TOKENS: row.output_tokens,
                names.STEP_COST: None if row.cost_nano is None else row.cost_nano / NANO_PER_USD,
                names.CONVERSATION: self._run.id,
                names.STEP_RETRIES: len(retries) if retries else None,
                names.STEP_RETRY_REASONS: ", ".join(retries) or None,
            }
        elif row.kind == StepKind.CALL:
            name = f"{names.EXECUTE_TOOL} {row.name}"
            attributes |= {names.OPERATION: names.EXECUTE_TOOL, names.TOOL: row.name, names.TOOL_CALL_ID: row.id}
            attributes[names.TOOL_TYPE] = names.FUNCTION
        elif row.kind == StepKind.APPROVE:
            name = names.WAIT_FOR_PERSON
        if self._content is not None:
            attributes |= self._content.of(row.kind, row.input, row.result)
        parent = self._parent(row.attempt, row.scope, row.agent)
        times = (row.started_at, row.ended_at or self._ends.get(row.attempt))
        return self._span(name, span_id_of(row.id), parent, times, attributes, _step_status(row), kind=kind)

    def _decision_span(self, row: Any, attempt: int) -> Span:
        attributes = {
            names.RUN_ID: self._run.id,
            names.AGENT: row.agent,
            names.DECISION_TOOL: row.tool,
            names.DECISION_ID: row.id,
            names.DECISION_VERDICT: row.verdict,
            names.DECISION_STATUS: row.status,
            names.DECISION_ENGINE: row.engine,
        }
        # The decision is made before the call's step begins, and a denied call may have none: its span is beside the call's.
        scope = self._scopes.get(row.step_key)
        parent = self._attempt_id(attempt) if scope is None else self._parent(attempt, scope, row.agent)
        status = (Code.OK if row.verdict == Verdict.ALLOW else Code.UNSET, None)
        took = max(row.evaluation_nanoseconds, 0)
        return self._span(
            f"policy {row.path}", span_id_of(row.id), parent, (row.decided_at, row.decided_at), attributes, status, before=took
        )

    def _parent(self, attempt: int, scope: str, agent: str | None) -> str:
        """The agent's invocation with the innermost scope around this place, or the attempt."""
        while True:
            row = self._agents.get((attempt, scope))
            if row is not None and (agent is None or row.agent == agent):
                return self._agent_id(row)
            if not scope:
                return self._attempt_id(attempt)
            scope = scope.rpartition("/")[0]

    def _attempt_at(self, moment: int) -> int | None:
        return next((row.number for row in self._record.attempts if row.started_at <= moment <= row.ended_at), None)

    def _attempt_id(self, number: int) -> str:
        return span_id_of(f"{self._run.id}/attempt/{number}") if number > 1 else self._root

    def _agent_id(self, row: Any) -> str:
        return span_id_of(f"{row.run_id}/agent/{row.attempt}/{row.scope}")

    def _caller(self) -> str | None:
        """The span that started the run, where a traceparent was given."""
        parts = (self._run.traceparent or "").split("-")
        if len(parts) != 4 or parts[1] != self._run.trace_id:
            return None
        return _hex(parts[2], 16)

    def _span(
        self,
        name: str,
        span_id: str,
        parent_id: str | None,
        times: tuple[int, int | None],
        attributes: Mapping[str, Any],
        status: _Status,
        *,
        kind: Kind = Kind.INTERNAL,
        remote: bool = False,
        links: Sequence[Link] = (),
        before: int = 0,
    ) -> Span:
        """`times` are microseconds, as the store has them; `before` are nanoseconds that the span began earlier."""
        start, end = times
        return Span(
            name=name,
            trace_id=self._trace_id,
            span_id=span_id,
            parent_id=parent_id,
            parent_is_remote=remote,
            kind=kind,
            start=start * 1000 - before,
            end=max(start, end if end is not None else start) * 1000,
            attributes={key: value for key, value in attributes.items() if value is not None},
            code=status[0],
            message=status[1],
            links=links,
            resource=self._resource,
        )


def _status(status: str, reason: str) -> _Status:
    if status == RunStatus.SUCCEEDED:
        return Code.OK, None
    return (Code.UNSET, None) if status in _NO_ERROR else (Code.ERROR, reason or status)


def _step_status(row: Any) -> _Status:
    if row.status == StepStatus.SUCCEEDED:
        return Code.OK, None
    # The error's text may quote a prompt or an argument; its type does not.
    return Code.ERROR, row.error_type or row.status


def _hex(text: str, digits: int) -> str:
    """An id as OTLP has it. Raises ValueError where it is none."""
    number = int(text, 16)
    if not 0 < number < 16**digits:
        raise ValueError(f"{text!r} is no id of {digits} hex digits")
    return f"{number:0{digits}x}"


def _texts(recorded: str | None) -> list[str]:
    """A list from the store; empty where there is none."""
    try:
        found = json.loads(recorded) if recorded else []
    except ValueError:
        return []
    return [str(one) for one in found] if isinstance(found, list) else []
