"""Printing: tables, fields, JSON and text, with everything untrusted made harmless; rich only on a terminal."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from taskpilot.cli import formatting
from taskpilot.domain.text import one_line, printable

CELL_LIMIT: Final = 200
"""Characters of a cell: a title of 500 or a traceback in a reason would hide the rest of the table."""
LINE_LIMIT: Final = 2000
_FOLDED: Final = frozenset({"title", "task", "why", "meaning", "call", "schedule", "next run", "in utc", "started", "decided", "default"})
"""Headings of columns whose cells may take several lines; all others are words and ids that are copied, and stay whole."""
_FOLDED_MIN: Final = 12
"""Characters that such a column keeps: a date, or the beginning of a title."""
_FOLDED_GOOD: Final = 28
"""Characters that such a column should have before a spare one is shown beside it: a title in two lines."""
_GAP: Final = 2
_CELL_LINES: Final = 4
"""Lines that a cell may take on a terminal: a long reason is told whole by the page of its run, task or decision."""
_SENTENCES: Final = frozenset({"why", "title"})
"""Fields whose values break at a terminal's width; all others are ids, paths and commands that are copied."""


class OutputLost(Exception):
    """Our stdout cannot be written; what the command did is done all the same."""


def on_terminal() -> bool:
    """True where a person reads our stdout as it comes."""
    return sys.stdout is not None and sys.stdout.isatty()


def say(text: str = "") -> None:
    """Prints text of any number of lines; control and bidirectional characters are escaped, tabs become spaces."""
    _write(printable(text.replace("\r\n", "\n").expandtabs(4), keep_newlines=True))


def tell(sentence: str) -> None:
    """Prints a sentence, broken at the terminal's width, and one line in a pipe; commands between backticks stay whole."""
    _write(formatting.wrapped(one_line(sentence, limit=LINE_LIMIT), formatting.width_of(sys.stdout)))


def echo_err(sentence: str, *, command: str | None = None, wrap: bool = True) -> None:
    """Prints a sentence to stderr: broken at the terminal's width, one line in a pipe or without `wrap`.

    `command`, what to type or to set, follows on a line of its own that is never broken, so that it can be copied. A stderr that is
    closed or full changes nothing.
    """
    line = one_line(sentence, limit=LINE_LIMIT)
    with suppress(OSError, ValueError):
        print(formatting.wrapped(line, formatting.width_of(sys.stderr)) if wrap else line, file=sys.stderr)
        if command:
            print(f"  {one_line(command, limit=LINE_LIMIT)}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Prints JSON, in ASCII: nothing in it can move a cursor. A list or an object is indented on a terminal only."""
    import json

    text = json.dumps(value, ensure_ascii=True, indent=2 if on_terminal() else None)
    _write(text.replace("\x7f", "\\u007f"))


def print_json_line(value: Any) -> None:
    """Prints JSON as one line, terminal or not."""
    import json

    _write(json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f"))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, spare: Sequence[str] = ()) -> None:
    """A table on a terminal, aligned text in a pipe, the sentence `empty` on stderr where there is no row.

    Columns named in `spare` are left out, in this order, as far as the terminal is too narrow for all.
    """
    if not rows:
        echo_err(empty)
        return
    cells = [[one_line(cell, limit=CELL_LIMIT) for cell in row] for row in rows]
    if on_terminal():
        _rich_table(headings, cells, spare)
    else:
        for line in aligned([[heading.upper() for heading in headings], *cells]):
            _write(line)


def print_fields(fields: Mapping[str, str]) -> None:
    """Name and value, one a line; values of nothing are left out."""
    shown = {name: value for name, value in fields.items() if value}
    width = max(map(len, shown), default=0)
    columns = formatting.width_of(sys.stdout)
    for name, value in shown.items():
        line = f"{name:<{width}}  {one_line(value, limit=2000)}"
        _write(formatting.wrapped(line, columns, indent=width + 2) if name in _SENTENCES else line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with their columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rich_table(headings: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str]) -> None:
    from rich.console import Console, ConsoleDimensions
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    columns = _fitting(dict(zip(headings, zip(*rows, strict=True), strict=True)), spare, console.width)
    columns = _shortened(columns, console.width)
    # A terminal that is too narrow even so wraps the lines by itself: rich would cut them, and ids with them.
    console.size = ConsoleDimensions(max(console.width, _width(columns)), console.height)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", pad_edge=False)
    for heading, cells in columns.items():
        folded = heading in _FOLDED
        table.add_column(Text(heading.upper()), no_wrap=not folded, overflow="fold", min_width=_least(heading, cells))
    for row in zip(*columns.values(), strict=True):
        # Text and never str: rich reads markup in a str, `[link=...]` among it.
        table.add_row(*(Text(cell, style=formatting.STYLES.get(cell, "")) for cell in row))
    with _output_errors():
        console.print(table)


def _fitting(columns: dict[str, tuple[str, ...]], spare: Sequence[str], width: int) -> dict[str, tuple[str, ...]]:
    """The columns that say something, without the spare ones that a terminal of this width has no room for."""
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    for heading in spare:
        if _width(columns, folded=_FOLDED_GOOD) <= width:
            break
        columns.pop(heading, None)
    return columns


def _shortened(columns: dict[str, tuple[str, ...]], width: int) -> dict[str, tuple[str, ...]]:
    """The columns with their longest cells cut to the lines that a cell may take."""
    folded = [heading for heading in columns if heading in _FOLDED]
    spare = max(0, width - _width(columns)) // max(1, len(folded))
    return {
        heading: tuple(one_line(cell, limit=_CELL_LINES * (_least(heading, cells) + spare)) for cell in cells)
        if heading in folded
        else cells
        for heading, cells in columns.items()
    }


def _width(columns: dict[str, tuple[str, ...]], *, folded: int = _FOLDED_MIN) -> int:
    """The characters of a line that the columns need together, where those whose cells may take several lines get `folded`."""
    return sum(_least(heading, cells, folded) for heading, cells in columns.items()) + _GAP * (len(columns) - 1)


def _least(heading: str, cells: Sequence[str], folded: int = _FOLDED_MIN) -> int:
    """The characters that a column needs."""
    longest = max(map(len, (heading, *cells)))
    return min(longest, folded) if heading in _FOLDED else longest


def tell_of_more(found: Sequence[object], limit: int, command: str) -> None:
    """Says on stderr how to get the next page, where this one is full."""
    if len(found) == limit:
        echo_err(f"older ones: {command}", wrap=False)


def say_line(text: str) -> None:
    """Prints one line, however long: line ends inside of it are escaped too."""
    _write(printable(text.expandtabs(4)))


def say_marked(word: str, line: str) -> None:
    """Prints one line that begins with `word`, which has its colour of the tables on a terminal that shows colours."""
    if not (on_terminal() and word in formatting.STYLES):
        say_line(line)
        return
    from rich.console import Console
    from rich.text import Text

    marked = Text(printable(line.expandtabs(4)))
    marked.stylize(formatting.STYLES[word], 0, len(word))
    with _output_errors():
        Console(file=sys.stdout, highlight=False, markup=False, emoji=False).print(marked, soft_wrap=True)


def _write(text: str) -> None:
    with _output_errors():
        print(text)


@contextmanager
def _output_errors() -> Iterator[None]:
    """Tells a full disk behind our stdout from one behind the state dir."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(f"the output could not be written: {error.strerror or error}") from error
