"""A step on its way into the journal: made, checked against the budget, counted."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from taskpilot.domain.errors import BudgetExceeded
from taskpilot.domain.ids import new_id
from taskpilot.domain.instruments import LLM_CALL_DURATION, LLM_CALLS, LLM_COST, LLM_RETRIES, LLM_TOKENS, LLM_UNPRICED
from taskpilot.domain.steps import Step, StepPlace, StepStatus
from taskpilot.domain.text import storable
from taskpilot.domain.usage import Reservation, Usage, nano_to_usd
from taskpilot.store import totals
from taskpilot.store.database import Record
from taskpilot.store.records import dumps


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


INPUT_KEPT: Final = 64_000
"""Characters of a step's input that are kept for people to read; the digest, not this text, identifies a step."""
ERROR_KEPT: Final = 2_000
"""Characters of an error's text that are recorded."""


@dataclass(frozen=True, slots=True)
class StartedStep:
    """A step that may now have its effect, until the lease that it was begun under ends."""

    step: Step
    lease_until: datetime


def new_step(place: StepPlace, status: StepStatus, value: Any, *, run_id: str, attempt: int, before: Step | None, now: datetime) -> Step:
    """A step that stands at this place; `before` is its making in an earlier attempt."""
    text = "" if value is None else dumps(value)
    return Step(
        id=new_id(),
        run_id=run_id,
        attempt=attempt,
        scope=place.scope,
        kind=place.kind,
        name=place.name,
        ordinal=place.ordinal,
        key=place.key,
        make=0 if before is None else before.make + 1,
        status=status,
        input=value if len(text) <= INPUT_KEPT else {"too_long": text[:1000]},
        result=None,
        error=None,
        error_type=None,
        started_at=now,
        ended_at=None,
    )


def error_text(error: BaseException | None, *, mask: Callable[[str], str] = str, limit: int | None = ERROR_KEPT) -> str | None:
    """What is kept of an error, without the secrets that its words may say back."""
    return None if error is None else storable(mask(str(error))[:limit])


def check_budget(row: Record, wanted: Reservation) -> None:
    """Raises BudgetExceeded, naming the ceiling, where the call could go past it."""
    if row.ceiling_nano is not None and wanted.cost_nano is not None:
        worst = row.spent_nano + row.reserved_nano + wanted.cost_nano
        if worst > row.ceiling_nano:
            raise BudgetExceeded(
                f"the budget of {nano_to_usd(row.ceiling_nano)} USD a run: {nano_to_usd(row.spent_nano)} are spent, "
                f"and with the calls in flight the next one could bring it to {nano_to_usd(worst)}",
                in_flight=row.spent_nano + wanted.cost_nano <= row.ceiling_nano,
            )
    limits = (
        ("tokens", row.ceiling_tokens, row.spent_tokens, row.reserved_tokens, wanted.tokens),
        ("LLM calls", row.ceiling_llm_calls, row.llm_calls, 0, wanted.llm_calls),
        ("tool calls", row.ceiling_tool_calls, row.tool_calls, 0, wanted.tool_calls),
    )
    for noun, ceiling, settled, reserved, more in limits:
        used = settled + reserved
        if ceiling is not None and more and used + more > ceiling:
            message = f"the budget of {ceiling} {noun} a run: {used} are used or reserved, the next call needs up to {more}"
            raise BudgetExceeded(message, in_flight=settled + more <= ceiling)
