"""What one LLM call adds to its job's totals."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from taskpilot.domain.instruments import LLM_CALL_DURATION, LLM_CALLS, LLM_COST, LLM_RETRIES, LLM_TOKENS, LLM_UNPRICED
from taskpilot.domain.steps import Step, StepStatus
from taskpilot.domain.usage import Usage
from taskpilot.store import totals


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call ended, in numbers."""

    status: StepStatus
    usage: Usage
    cost_nano: int | None
    unpriced: bool
    retries: tuple[str, ...]


def call_totals(step: Step, end: CallEnd, *, agent_label: str, now: datetime) -> list[totals.Increment]:
    """Calls, retries, tokens, cost and duration."""
    model = step.model or "other"
    counted = [totals.count(LLM_CALLS, model=model, status=end.status)]
    counted += [totals.count(LLM_RETRIES, model=model, reason=reason) for reason in end.retries]
    kinds = (("input", end.usage.input), ("cached_input", end.usage.cached_input), ("output", end.usage.output))
    counted += [totals.count(LLM_TOKENS, tokens, model=model, agent=agent_label, kind=kind) for kind, tokens in kinds]
    if end.cost_nano is not None:
        counted.append(totals.count(LLM_COST, end.cost_nano, model=model, agent=agent_label))
    if end.unpriced:
        counted.append(totals.count(LLM_UNPRICED, model=model))
    return [*counted, *totals.observed(LLM_CALL_DURATION, micros(now - step.started_at), model=model)]


def micros(duration: timedelta) -> int:
    """Whole microseconds; a clock that was set back gives 0."""
    return max(0, duration // timedelta(microseconds=1))
