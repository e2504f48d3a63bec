"""The one choke point of a budget: asked in the transaction that begins a call."""

from taskpilot.domain.errors import BudgetExceeded
from taskpilot.domain.usage import Reservation, nano_to_usd
from taskpilot.store.database import Record


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
