"""Tokens and money: what a call used and what it cost."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

NANO_PER_USD: Final = 1_000_000_000


def usd_to_nano(usd: Decimal) -> int:
    """Integer nano-USD, the only unit in which money is kept or added."""
    return int((usd * NANO_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN))


def nano_to_usd(nano: int) -> Decimal:
    """The exact amount in USD."""
    return Decimal(nano) / NANO_PER_USD


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the server reported them; `input` includes `cached_input`."""

    input: int = 0
    cached_input: int = 0
    output: int = 0

    @property
    def total(self) -> int:
        """Tokens in and out."""
        return self.input + self.output

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.input + other.input, self.cached_input + other.cached_input, self.output + other.output)


@dataclass(frozen=True, slots=True)
class Reservation:
    """The most that one call may use, taken from the run's budget before it is made."""

    cost_nano: int | None = None
    """None: the model has no price; the budget then holds by calls and tokens."""
    tokens: int = 0
    llm_calls: int = 0
    tool_calls: int = 0


@dataclass(frozen=True, slots=True)
class Spend:
    """What a run has used so far; `cost_nano` is None where any call had no price."""

    usage: Usage = Usage()
    cost_nano: int | None = 0
    llm_calls: int = 0
    tool_calls: int = 0
