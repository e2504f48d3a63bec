"""Formats text and values for people: wrapping, instants, durations, money."""

import os
import re
import sys
from datetime import datetime
from decimal import Decimal
from typing import Final, TextIO
from zoneinfo import ZoneInfo

import click

from taskpilot.cli.options import GlobalOptions
from taskpilot.domain.usage import Usage, nano_to_usd

USUAL_WIDTH: Final = 80
"""Columns of a terminal that does not report its width."""
_PIECE: Final = r"(?:`[^`]*`|\S)+"
"""A piece that is never broken: a word, or a command between backticks, so that it can be copied."""

GOOD: Final = "color(32)"
BAD: Final = "bold color(166)"
ATTENTION: Final = "bold"
"""It needs a person."""
STYLES: Final = {
    **dict.fromkeys(("succeeded", "executed", "approved", "allow", "ok", "delivered"), GOOD),
    **dict.fromkeys(("waiting", "review", "pending", "require_approval", "unknown", "diverged", "differs", "warning", "paused"), ATTENTION),
    **dict.fromkeys(
        ("failed", "lost", "timed_out", "denied", "deny", "rejected", "budget_exceeded", "broken", "refused", "cancelled", "error"), BAD
    ),
    **dict.fromkeys(("outcome_failed", "blocked", "missed", "never_succeeded", "success_too_old", "notice_failed"), BAD),
    **dict.fromkeys(("uncertain", "clock"), ATTENTION),
}
"""The rich style of each status.

Blue and orange can be told apart with red-green blindness (Okabe and Ito) and are readable on black and on white; bold works without
colour.
"""


def width_of(stream: TextIO | None) -> int | None:
    """The columns of the terminal behind a stream; None for a pipe or a file."""
    try:
        if stream is None or not stream.isatty():
            return None
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return None


def wrapped(text: str, width: int | None, *, indent: int = 2) -> str:
    """The text in lines of at most `width` columns, all but the first indented; one line where `width` is None.

    A longer word or command between backticks gets a line of its own: the terminal wraps it, and it can be copied as one.
    """
    if width is None or len(text) <= width:
        return text
    lines: list[str] = []
    line = ""
    for piece in re.findall(_PIECE, text):
        if line and len(line) + 1 + len(piece) > width:
            lines.append(line)
            line = " " * indent + piece
        else:
            line = f"{line} {piece}" if line else piece
    return "\n".join([*lines, line])


NONE = "-"


_COMMAND: Final = re.compile(r"(^ *|`|: +|&& )taskpilot (?=[a-z])(?!(?:init|docs|exit-codes)\b)", re.MULTILINE)
"""The beginning of a command in a text of ours: between backticks, after a colon, or at the start of a line."""


def with_folders(text: str, given: GlobalOptions | None = None) -> str:
    """A hint or another text of ours, with the folders in each command that need them from here; by the running command's options."""
    given = given or _given()
    if not given.folders:
        return text
    return _COMMAND.sub(lambda found: f"{found[1]}taskpilot {given.folders} ", text)


def _given() -> GlobalOptions:
    context = click.get_current_context(silent=True)
    return (context and context.find_object(GlobalOptions)) or GlobalOptions()


WIDE: Final = 110
"""From this width on a list shows the time of day beside "3 h ago"."""


def instant(moment: datetime | None) -> str:
    """To the second: "2026-11-23 08:00:00 CET" in the zone of this machine on a terminal, else "2026-11-23 07:00:00Z"."""
    if moment is None:
        return NONE
    here = moment if _in_utc() else moment.astimezone()
    return here.strftime("%Y-%m-%d %H:%M:%S %Z" if here.utcoffset() else "%Y-%m-%d %H:%M:%SZ")


def listed(moment: datetime | None, now: datetime) -> str:
    """For a list on a terminal: "5 min ago", "3 h ago" and on a wide one "07:00, 3 h ago", "Nov 23 07:00". Elsewhere like `instant`."""
    if moment is None or _in_utc():
        return instant(moment)
    seconds = int((now - moment).total_seconds())
    here = moment.astimezone()
    if not 0 <= seconds < 86_400:
        return here.strftime("%b %d %H:%M" if here.year == now.astimezone().year else "%Y-%m-%d")
    if seconds < 3_600:
        return f"{seconds} s ago" if seconds < 60 else f"{seconds // 60} min ago"
    since = f"{seconds // 3_600} h ago"
    return f"{here:%H:%M}, {since}" if (width_of(sys.stdout) or USUAL_WIDTH) >= WIDE else since


def zone_heading() -> str:
    """The heading of a column of instants: "in utc", or "here" for times in the zone of this machine."""
    return "in utc" if _in_utc() else "here"


def _in_utc() -> bool:
    return sys.stdout is None or not sys.stdout.isatty() or _given().utc


def local(moment: datetime | None, zone: str) -> str:
    """Local time in a zone with its offset: "Mon 2026-11-23 08:00:00+0100"."""
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
    """The exact amount with at least two decimals; "unpriced" where it is not known."""
    return "unpriced" if nano is None else plain_usd(nano_to_usd(nano))


def short_usd(nano: int | None) -> str:
    """The amount for a list: "$0", "$0.0020", "$12.50"; "unpriced" where it is not known."""
    if nano is None:
        return "unpriced"
    amount = nano_to_usd(nano)
    if not nano:
        return "$0"
    if amount < Decimal("0.0001"):
        return "<$0.0001"
    return f"${amount:.4f}" if amount < 1 else f"${amount:,.2f}"


def plain_usd(amount: Decimal) -> str:
    """The amount without trailing zeros: "0.00202 USD"."""
    whole, _point, fraction = f"{amount:.9f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')} USD"


def tokens(usage: Usage) -> str:
    """Tokens: "1,200 in (1,024 cached), 30 out"."""
    cached = f" ({usage.cached_input:,} cached)" if usage.cached_input else ""
    return f"{usage.input:,} in{cached}, {usage.output:,} out"


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 call", "2 calls"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
