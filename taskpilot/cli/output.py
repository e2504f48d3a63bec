"""Printing: tables, fields, JSON and text, with everything untrusted made harmless; rich only on a terminal."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from taskpilot.domain.text import one_line, printable

CELL_LIMIT: Final = 200
"""Characters of a cell: a title of 500 or a traceback in a reason would hide the rest of the table."""
_IDS: Final = frozenset({"id", "run", "step", "decision", "task", "code", "fire (utc)"})
"""Headings of columns that are copied by hand: never cut or folded where they can be whole."""
_STYLES: Final = {
    "succeeded": "green",
    "executed": "green",
    "approved": "green",
    "allow": "green",
    "ok": "green",
    "running": "cyan",
    "queued": "cyan",
    "waiting": "yellow",
    "review": "yellow",
    "pending": "yellow",
    "require_approval": "yellow",
    "unknown": "yellow",
    "diverged": "yellow",
    "owed": "yellow",
    "failed": "red",
    "lost": "red",
    "timed_out": "red",
    "denied": "red",
    "deny": "red",
    "rejected": "red",
    "budget_exceeded": "red",
    "broken": "red",
    "refused": "red",
}


def on_terminal() -> bool:
    """True where a person reads our stdout as it comes."""
    return sys.stdout is not None and sys.stdout.isatty()


def say(text: str = "") -> None:
    """Prints text of any number of lines; control and bidirectional characters are escaped, tabs become spaces."""
    print(printable(text.replace("\r\n", "\n").expandtabs(4), keep_newlines=True))


def whisper(text: str) -> None:
    """Prints one line of any length for people to stderr."""
    print(one_line(text, limit=2000), file=sys.stderr)


def print_json(value: Any) -> None:
    """Prints JSON, in ASCII: nothing in it can move a cursor. A list or an object is indented on a terminal only."""
    text = json.dumps(value, ensure_ascii=True, indent=2 if on_terminal() else None)
    print(text.replace("\x7f", "\\u007f"))


def print_json_line(value: Any) -> None:
    """Prints JSON as one line, terminal or not."""
    print(json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f"))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """A table on a terminal, aligned text in a pipe, the sentence `empty` on stderr where there is no row."""
    if not rows:
        whisper(empty)
        return
    cells = [[one_line(cell, limit=CELL_LIMIT) for cell in row] for row in rows]
    if on_terminal():
        _rich_table(headings, cells)
    else:
        for line in aligned([[heading.upper() for heading in headings], *cells]):
            print(line)


def print_fields(fields: Mapping[str, str]) -> None:
    """Name and value, one a line; values of nothing are left out."""
    shown = {name: value for name, value in fields.items() if value}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  {one_line(value, limit=2000)}")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with their columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rich_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for heading in headings:
        whole = heading in _IDS
        table.add_column(Text(heading.upper()), no_wrap=whole, overflow="fold", min_width=36 if whole and heading != "code" else None)
    for row in rows:
        # Text and never str: rich reads markup in a str, `[link=...]` among it.
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(file=sys.stdout, highlight=False, markup=False, emoji=False).print(table)


def tell_of_more(found: Sequence[object], limit: int, command: str) -> None:
    """Says on stderr how to get the next page, where this one is full."""
    if len(found) == limit:
        whisper(f"older ones: {command}")


def say_line(text: str) -> None:
    """Prints one line, however long: line ends inside of it are escaped too."""
    print(printable(text.expandtabs(4)))
