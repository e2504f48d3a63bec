"""The cost of a call: by the project's `prices.toml`, else by the dated figures of genai-prices."""

import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.chat import OFFLINE
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.times import utc_now
from taskpilot.domain.usage import Usage, usd_to_nano

_PER: Final = 1_000_000
_KEYS: Final = frozenset({"model", "from", "input", "cached_input", "output"})
_EXAMPLE: Final = '[[price]], then model = "my-model", from = 2026-01-01, input = "0.15", cached_input = "0.075", output = "0.60"'
"""On one line, for an error; each part is a line of the file."""


@dataclass(frozen=True, slots=True)
class _Price:
    """USD per million tokens of one model since a day (UTC)."""

    since: date
    input: Decimal
    cached_input: Decimal
    output: Decimal


class Prices:
    """Prices of single calls. Sums of calls must not be priced: tiers and rounding belong to each call.

    `override_file` is a TOML file, which need not exist. Each `[[price]]` has a `model` and its USD per million tokens as `input`, `output`
    and, if it differs, `cached_input`, valid from the day `from` (UTC; without it, always). Raises ConfigurationError if the file is wrong.
    """

    def __init__(self, override_file: Path | None = None) -> None:
        self._overrides = {} if override_file is None else _read(override_file)

    def cost_nano(self, model: str, usage: Usage | None, *, at: datetime, base_url: str | None = None) -> int | None:
        """Nano-USD of one call at `at`; None where it is unknown: no usage, no price, or more cached tokens than input."""
        if model == OFFLINE:
            # It costs nothing: a known price, not an unknown one.
            return 0
        if usage is None or min(usage.input, usage.cached_input, usage.output) < 0 or usage.cached_input > usage.input:
            return None
        override = self._override(model, at)
        if override is not None:
            fresh = usage.input - usage.cached_input
            total = fresh * override.input + usage.cached_input * override.cached_input + usage.output * override.output
            return usd_to_nano(total / _PER)
        return _listed(model, usage, at, base_url)

    def known(self, model: str, *, at: datetime | None = None, base_url: str | None = None) -> bool:
        """Whether the model has a price at `at` (default: now)."""
        return self.cost_nano(model, Usage(), at=at or utc_now(), base_url=base_url) is not None

    def _override(self, model: str, at: datetime) -> _Price | None:
        day = at.astimezone(UTC).date()
        return next((price for price in self._overrides.get(model, ()) if price.since <= day), None)


def _listed(model: str, usage: Usage, at: datetime, base_url: str | None) -> int | None:
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price
    from genai_prices.data_snapshot import get_snapshot

    provider: str | None = None
    if base_url:
        # A server in the list has its own prices; any other one (a proxy, a test) has those of the model's maker.
        try:
            provider = get_snapshot().find_provider(None, None, base_url).id
        except LookupError:
            provider = None
    tokens = Tokens(input_tokens=usage.input, cache_read_tokens=usage.cached_input, output_tokens=usage.output)
    try:
        return usd_to_nano(calc_price(tokens, model, provider_id=provider, genai_request_timestamp=at).total_price)
    except (LookupError, ValueError):
        return None


def context_of(model: str) -> int | None:
    """The tokens of a model's context as genai-prices lists them; None where it does not."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider_model(model, None, None, None)[1].context_window
    except LookupError:
        return None


def _read(path: Path) -> dict[str, list[_Price]]:
    """The file's prices by model, the newest first."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"), parse_float=Decimal)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _invalid(path, str(error)) from error
    entries = document.pop("price", [])
    if document:
        raise _invalid(path, f"unknown key {next(iter(document))!r}")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _invalid(path, "`price` must be written as [[price]]")
    prices: dict[str, list[_Price]] = {}
    for number, entry in enumerate(entries, start=1):
        model = entry.get("model")
        if not isinstance(model, str) or not model:
            raise _invalid(path, f"[[price]] number {number}: `model` must be a name")
        where = f"[[price]] number {number} ({model})"
        price = _price(path, where, entry)
        if any(other.since == price.since for other in prices.get(model, ())):
            raise _invalid(path, f"{where}: there is another price from the same day")
        prices.setdefault(model, []).append(price)
    for listed in prices.values():
        listed.sort(key=lambda price: price.since, reverse=True)
    return prices


def _price(path: Path, where: str, entry: dict[str, Any]) -> _Price:
    unknown = sorted(entry.keys() - _KEYS)
    if unknown:
        raise _invalid(path, f"{where}: unknown key {unknown[0]!r}")
    since = entry.get("from", date.min)
    if isinstance(since, str):
        try:
            since = date.fromisoformat(since)
        except ValueError:
            raise _invalid(path, f"{where}: `from` is {since!r}, not a day like 2026-01-01") from None
    if not isinstance(since, date) or isinstance(since, datetime):
        raise _invalid(path, f"{where}: `from` must be a day like 2026-01-01")
    amounts: dict[str, Decimal] = {}
    for key in ("input", "output", "cached_input"):
        if key == "cached_input" and key not in entry:
            amounts[key] = amounts["input"]
            continue
        amounts[key] = _amount(path, where, key, entry.get(key))
    return _Price(since, amounts["input"], amounts["cached_input"], amounts["output"])


def _amount(path: Path, where: str, key: str, value: Any) -> Decimal:
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = Decimal("NaN")
        if amount.is_finite() and 0 <= amount <= _PER:
            return amount
    raise _invalid(path, f'{where}: `{key}` must be USD per million tokens, such as "0.15"')


def _invalid(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {what}. No token was spent.", hint=f"correct {path}; a price has these lines: {_EXAMPLE}")
