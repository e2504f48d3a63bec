"""Makes steps for the journal, checks them against the budget and counts them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from taskpilot.domain.errors import BudgetExceeded
from taskpilot.domain.ids import new_id
from taskpilot.domain.instruments import LLM_CALL_DURATION, LLM_CALLS, LLM_COST, LLM_RETRIES, LLM_TOKENS, LLM_UNPRICED
from taskpilot.domain.reasons import Fact
from taskpilot.domain.steps import Step, StepPlace, StepStatus
from taskpilot.domain.text import storable
from taskpilot.domain.usage import Reservation, Usage, nano_to_usd
from taskpilot.store import totals
from taskpilot.store.records import dumps
from taskpilot.store.runs import HeldRun


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The end of an LLM call: status, usage and cost."""

    status: StepStatus
    usage: Usage
    cost_nano: int | None
    unpriced: bool
    retries: tuple[str, ...]


def call_totals(step: Step, end: CallEnd, *, agent_label: str, now: datetime) -> list[totals.Increment]:
    """What an LLM call adds to the totals: calls, retries, tokens, cost and duration."""
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
class AgentEnd:
    """The end of an agent's invocation."""

    agent: str
    scope: str
    status: StepStatus
    started_at: datetime


@dataclass(frozen=True, slots=True)
class StartedStep:
    """A step that may now be executed, until the lease ends."""

    step: Step
    """With the reservation of all its tries."""
    lease_until: int
    """By the boot clock, in microseconds."""
    reservation: Reservation = field(default_factory=Reservation)
    """Of one try."""


def new_step(
    place: StepPlace, status: StepStatus, value: Any, *, run_id: str, attempt: int, before: Step | None, now: datetime, position: int
) -> Step:
    """A step at this place; `before` is the same step in an earlier attempt, `position` its order among the run's steps."""
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
        position=position,
    )


def error_text(error: BaseException | None, *, mask: Callable[[str], str] = str, limit: int | None = ERROR_KEPT) -> str | None:
    """The recorded text of an error, without secrets."""
    return None if error is None else storable(mask(str(error))[:limit])


def check_budget(run: HeldRun, wanted: Reservation) -> None:
    """Raises BudgetExceeded where the call could exceed a ceiling."""
    limits = (
        ("usd", run.ceiling_nano, run.spent_nano, run.reserved_nano, wanted.cost_nano),
        ("tokens", run.ceiling_tokens, run.spent_tokens, run.reserved_tokens, wanted.tokens),
        ("llm_calls", run.ceiling_llm_calls, run.llm_calls, 0, wanted.llm_calls),
        ("tool_calls", run.ceiling_tool_calls, run.tool_calls, 0, wanted.tool_calls),
    )
    for limit, ceiling, settled, reserved, more in limits:
        used = settled + reserved
        # A call of no tokens is none; one of no cost is a call all the same.
        if ceiling is None or more is None or not (more or limit == "usd") or used + more <= ceiling:
            continue
        amounts = {"ceiling": ceiling, "used": used, "wanted": more}
        facts: dict[str, Fact] = {name: float(nano_to_usd(amount)) if limit == "usd" else amount for name, amount in amounts.items()}
        raise BudgetExceeded({"scope": "run", "limit": limit, **facts}, in_flight=settled + more <= ceiling)
