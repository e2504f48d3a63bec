"""The timeline of a run, read from the store."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision, Verdict
from taskpilot.domain.runs import Attempt, Run
from taskpilot.domain.steps import Step, StepKind
from taskpilot.messages.reasons import reason_sentence
from taskpilot.store import listings, runs, steps, tasks
from taskpilot.store.ids import find_id
from taskpilot.store.listings import AgentInvocation
from taskpilot.views.runs import no_run


@dataclass(frozen=True, slots=True)
class TraceLine:
    """One span of the timeline; its name is untrusted."""

    depth: int
    name: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    """None while it is active, and where its end is unknown."""
    detail: str = ""
    step_id: str = ""
    """Where the span is a step."""


def trace_of(deployment: Deployment, run_id: str) -> tuple[Run, list[TraceLine]]:
    """The run and its spans, each below its parent, in the order of their start. Raises UsageError or NotFound."""
    with deployment.store.read() as connection:
        run_id = find_id(connection, run_id)
        run = runs.get_run(connection, run_id)
        if run is None:
            raise no_run(run_id)
        attempts = runs.attempts_of(connection, run_id)
        agents = listings.agents_of(connection, run_id)
        made = steps.steps_of(connection, run_id)
        decided = tasks.decisions_of(connection, run_id)
    lines: list[TraceLine] = []
    for attempt in attempts:
        why = reason_sentence(attempt.reason)
        lines.append(TraceLine(0, f"attempt {attempt.number}", attempt.status, attempt.started_at, attempt.ended_at, why))
        lines.extend(_inside(attempt, agents, made, decided))
    return run, lines


@dataclass(slots=True)
class _Span:
    """A span with the spans inside it."""

    line: TraceLine
    scope: str
    inside: list["_Span"] = field(default_factory=list)

    @property
    def workflow(self) -> str:
        """The scope of its workflow; outside of a workflow, its parent scope."""
        before, workflow, after = self.scope.partition("/workflow.")
        return f"{before}{workflow}{after.partition('/')[0]}" if workflow else self.scope.rpartition("/")[0]


def _inside(attempt: Attempt, agents: list[AgentInvocation], made: list[Step], decided: list[Decision]) -> list[TraceLine]:
    """The spans of an attempt: each agent with its steps below it, the agents of one workflow together, earliest first.

    A decision has the parent of its tool call; if that call was never made, it is listed beside the agents.
    """
    outer = [
        _Span(TraceLine(1, one.agent, one.status, one.started_at, one.ended_at), one.scope)
        for one in agents
        if one.attempt == attempt.number
    ]
    by_scope = {span.scope: span for span in outer}
    roots: list[_Span] = []
    for span in outer:
        _place(span, by_scope, roots, span.scope.rpartition("/")[0])
    for step in made:
        if step.attempt == attempt.number:
            _place(_Span(_step_line(step), step.scope), by_scope, roots, step.scope)
    scopes = {step.key: step.scope for step in made}
    for decision in decided:
        if attempt.started_at <= decision.decided_at <= (attempt.ended_at or decision.decided_at):
            scope = scopes.get(decision.step_key, "")
            _place(_Span(_decision_line(decision), scope), by_scope, roots, scope)
    begins: dict[str, datetime] = {}
    for span in roots:
        begins[span.workflow] = min(begins.get(span.workflow, span.line.started_at), span.line.started_at)
    roots.sort(key=lambda span: (begins[span.workflow], span.workflow, span.line.started_at))
    return [line for span in roots for line in _lines(span, 1)]


def _place(span: _Span, by_scope: dict[str, _Span], roots: list[_Span], path: str) -> None:
    """Puts a span below the innermost agent whose scope contains it, or beside the agents."""
    while path:
        above = by_scope.get(path)
        if above is not None:
            above.inside.append(span)
            return
        path = path.rpartition("/")[0]
    roots.append(span)


def _lines(span: _Span, depth: int) -> Iterator[TraceLine]:
    yield replace(span.line, depth=depth)
    for inner in sorted(span.inside, key=lambda one: one.line.started_at):
        yield from _lines(inner, depth + 1)


def _step_line(step: Step) -> TraceLine:
    words = {StepKind.ASK: "chat", StepKind.CALL: "tool"}
    name = f"{words.get(step.kind, step.kind.value)} {step.model if step.kind is StepKind.ASK and step.model else step.name}"
    details = []
    if step.usage is not None:
        details.append(f"{step.usage.input:,}+{step.usage.output:,} tokens")
    if step.retries:
        details.append("1 retry" if len(step.retries) == 1 else f"{len(step.retries)} retries")
    if step.error:
        details.append(step.error)
    return TraceLine(0, name, step.status, step.started_at, step.ended_at, ", ".join(details), step.id)


def _decision_line(decision: Decision) -> TraceLine:
    """The verdict, with the person's answer if approval was needed."""
    answer = decision.status.value if decision.verdict is Verdict.REQUIRE_APPROVAL else ""
    return TraceLine(0, f"policy {decision.tool}", decision.verdict, decision.decided_at, decision.decided_at, answer)
