"""Prints tables, fields, JSON and text; untrusted characters are escaped, and rich is used only on a terminal."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final

from taskpilot.cli import formatting
from taskpilot.domain.errors import UsageError
from taskpilot.domain.text import one_line, printable

CELL_LIMIT: Final = 200
"""Maximum characters of a cell: a long title or a traceback would hide the rest of the table."""
LINE_LIMIT: Final = 2000
_FOLDED: Final = frozenset({"title", "task", "why", "meaning", "call", "schedule", "next run", "in utc", "here", "default", "job"})
"""Columns whose cells may take several lines; ids and single words stay on one line, so that they can be copied."""
_FOLDED_MIN: Final = 10
"""Minimum width of such a column: a date, or the beginning of a title. With it, a run with the longest status fits 80 columns."""
_FOLDED_GOOD: Final = 28
"""Width that such a column should have before an optional column is shown: a title in two lines."""
_GAP: Final = 2
_LINE_BYTES: Final = 64 * 1024
"""A longer line of a file is printed in pieces."""
_CELL_LINES: Final = {"why": 2, "job": 6}
"""Maximum lines of a cell on a terminal by column, elsewhere four; `show` prints the whole text. A job's name is never cut."""
_COMMANDS: Final = frozenset({"next", "output"})
_COPIED: Final = _COMMANDS | {"parameters"}
"""Fields with commands and JSON, which are not wrapped, so that they can be copied. The others are wrapped, but only at spaces."""


class OutputLost(Exception):
    """stdout cannot be written; what the command did stays done."""


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def say(text: str = "") -> None:
    """Prints text of one or more lines; control and bidirectional characters are escaped, tabs become spaces."""
    _write(printable(text.replace("\r\n", "\n").expandtabs(4), keep_newlines=True))


def say_command(text: str) -> None:
    """Prints lines of ours with commands to copy, never wrapped, with the folders that they need from here."""
    _write(printable(formatting.with_folders(text), keep_newlines=True))


def tell(sentence: str) -> None:
    """Prints a sentence, wrapped at the terminal's width; one line in a pipe. Commands between backticks are not broken."""
    line = formatting.with_folders(one_line(sentence, limit=LINE_LIMIT))
    _write(formatting.wrapped(line, formatting.width_of(sys.stdout)))


def echo_err(sentence: str, *, command: str | None = None, wrap: bool = True) -> None:
    """Prints a sentence to stderr, wrapped at the terminal's width; one line in a pipe or without `wrap`.

    `command`, what to type or to set, follows on a line of its own, so that it can be copied. A closed or full stderr is ignored.
    """
    line = one_line(sentence, limit=LINE_LIMIT)
    with suppress(OSError, ValueError):
        print(formatting.wrapped(line, formatting.width_of(sys.stderr)) if wrap else line, file=sys.stderr)
        if command:
            print(f"  {one_line(command, limit=LINE_LIMIT)}", file=sys.stderr)


def echo_err_line(text: str) -> None:
    """Prints one line of any length to stderr, escaped. A closed or full stderr is ignored."""
    with suppress(OSError, ValueError):
        print(printable(text.expandtabs(4)), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Prints JSON in ASCII, so that no character can control the terminal; indented on a terminal only."""
    import json

    text = json.dumps(value, ensure_ascii=True, indent=2 if on_terminal() else None)
    _write(text.replace("\x7f", "\\u007f"))


def print_json_line(value: Any) -> None:
    """Prints JSON on one line."""
    import json

    _write(json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f"))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, spare: Sequence[str] = ()) -> None:
    """Prints a table on a terminal, aligned text in a pipe, and the sentence `empty` on stderr if there are no rows.

    Columns in `spare` are left out, in this order, if the terminal is too narrow.
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
    """Prints a line for each name and value; empty values are left out."""
    shown = {name: value for name, value in fields.items() if value}
    width = max(map(len, shown), default=0)
    columns = formatting.width_of(sys.stdout)
    for name, value in shown.items():
        text = one_line(formatting.with_folders(value) if name in _COMMANDS else value, limit=2000)
        room = None if columns is None or name in _COPIED else columns - width - 2
        first, *rest = formatting.wrapped(text, room, indent=0).split("\n")
        for line in (f"{name:<{width}}  {first}", *(" " * (width + 2) + line for line in rest)):
            _write(line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rich_table(headings: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str]) -> None:
    from rich.console import Console, ConsoleDimensions
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    columns = _fitting(dict(zip(headings, zip(*rows, strict=True), strict=True)), spare, console.width)
    columns = _shortened(columns, console.width)
    # If it is still too narrow, the terminal wraps the lines: rich would cut them and the ids in them.
    console.size = ConsoleDimensions(max(console.width, _width(columns)), console.height)
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", pad_edge=False)
    for heading, cells in columns.items():
        folded = heading in _FOLDED
        table.add_column(Text(heading.upper()), no_wrap=not folded, overflow="fold", min_width=_least(heading, cells))
    for row in zip(*columns.values(), strict=True):
        # Text, not str: rich would interpret markup in a str, like `[link=...]`.
        table.add_row(*(Text(cell, style=formatting.STYLES.get(cell, "")) for cell in row))
    with _output_errors():
        console.print(table)


def _fitting(columns: dict[str, tuple[str, ...]], spare: Sequence[str], width: int) -> dict[str, tuple[str, ...]]:
    """The columns that are not empty, without the spare ones for which the terminal has no room."""
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    for heading in spare:
        if _width(columns, folded=_FOLDED_GOOD) <= width:
            break
        columns.pop(heading, None)
    return columns


def _shortened(columns: dict[str, tuple[str, ...]], width: int) -> dict[str, tuple[str, ...]]:
    """The columns with long cells cut to the maximum number of lines."""
    folded = [heading for heading in columns if heading in _FOLDED]
    spare = max(0, width - _width(columns)) // max(1, len(folded))
    return {
        heading: tuple(one_line(cell, limit=_CELL_LINES.get(heading, 4) * (_least(heading, cells) + spare)) for cell in cells)
        if heading in folded
        else cells
        for heading, cells in columns.items()
    }


def _width(columns: dict[str, tuple[str, ...]], *, folded: int = _FOLDED_MIN) -> int:
    """The width of all columns, where those with several lines a cell get `folded` characters."""
    return sum(_least(heading, cells, folded) for heading, cells in columns.items()) + _GAP * (len(columns) - 1)


def _least(heading: str, cells: Sequence[str], folded: int = _FOLDED_MIN) -> int:
    """The minimum width of a column."""
    longest = max(map(len, (heading, *cells)))
    return min(longest, folded) if heading in _FOLDED else longest


def print_next_page(found: Sequence[object], limit: int, command: str) -> None:
    """Prints the command for the next page on stderr, if this one is full."""
    if len(found) == limit:
        echo_err(formatting.with_folders(f"older ones: {command}"), wrap=False)


def say_line(text: str) -> None:
    """Prints one line of any length; line ends in it are escaped."""
    _write(printable(text.expandtabs(4)))


def flush() -> None:
    """Sends what is printed so far to the terminal or pipe."""
    with _output_errors():
        sys.stdout.flush()


def copy_file(file: BinaryIO, name: str) -> None:
    """Prints the content of a file: as it is to a pipe, as escaped text on a terminal. Raises UsageError for bytes on a terminal."""
    if on_terminal():
        while line := file.readline(_LINE_BYTES):
            if b"\0" in line:
                raise UsageError(f"{one_line(name)} is not a text", hint="save it with --save DIR, or send it to a file with >")
            say(line.rstrip(b"\n").decode("utf-8", errors="backslashreplace"))
        return
    with _output_errors():
        while piece := file.read(1 << 20):
            sys.stdout.buffer.write(piece)


def say_marked(word: str, line: str) -> None:
    """Prints one line that begins with `word`, in the style of that status on a terminal."""
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
    """Turns an OSError of stdout into OutputLost, so that it is not taken for one of the state folder."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(f"the output could not be written: {error.strerror or error}") from error
