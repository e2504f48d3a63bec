"""Values as people read them: instants, durations, money."""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from taskpilot.domain.usage import Usage, nano_to_usd

NONE = "-"


def instant(moment: datetime | None) -> str:
    """Seconds, in UTC and said so: "2026-11-23 07:00:00Z"."""
    return NONE if moment is None else moment.strftime("%Y-%m-%d %H:%M:%SZ")


def local(moment: datetime | None, zone: str) -> str:
    """The wall clock of a zone with its offset: "Mon 2026-11-23 08:00:00+0100"."""
    return NONE if moment is None else moment.astimezone(ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M:%S%z")


def duration(seconds: float) -> str:
    """Two units at most: "0.31s", "12.4s", "3m05s", "1h02m", "2d03h"."""
    if seconds < 10:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def usd(nano: int | None) -> str:
    """The exact amount, at least two digits after the point; "unpriced" where it is not known."""
    return "unpriced" if nano is None else plain_usd(nano_to_usd(nano))


def plain_usd(amount: Decimal) -> str:
    """The amount without an exponent and without needless zeros: "0.00202 USD"."""
    whole, _point, fraction = f"{amount:.9f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')} USD"


def tokens(usage: Usage) -> str:
    """What went in and out: "1,200 in (1,024 cached), 30 out"."""
    cached = f" ({usage.cached_input:,} cached)" if usage.cached_input else ""
    return f"{usage.input:,} in{cached}, {usage.output:,} out"


def count(number: int, noun: str) -> str:
    """How many of a noun: "1 call", "2 calls"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
