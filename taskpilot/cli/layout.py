"""How text is laid out for people: the terminal's width, lines that break without cutting a command, and the palette."""

import os
import re
from typing import Final, TextIO

USUAL_WIDTH: Final = 80
"""Columns of a terminal that does not say how wide it is."""
_PIECE: Final = r"(?:`[^`]*`|\S)+"
"""What stays on one line: a word, and a command between backticks, which is copied as it stands."""

WELL: Final = "color(32)"
WRONG: Final = "bold color(166)"
ASKS: Final = "bold"
"""It waits for a person."""
STYLES: Final = {
    **dict.fromkeys(("succeeded", "executed", "approved", "allow", "ok"), WELL),
    **dict.fromkeys(
        ("waiting", "review", "pending", "require_approval", "unknown", "diverged", "owed", "differs", "warning", "paused"), ASKS
    ),
    **dict.fromkeys(
        ("failed", "lost", "timed_out", "denied", "deny", "rejected", "budget_exceeded", "broken", "refused", "cancelled", "error"), WRONG
    ),
}
"""How a status looks, in rich's words; the word itself always says it too.

Blue and orange, which a red-green blindness keeps apart (Okabe and Ito's pair), of a lightness that reads on black and on white; and bold,
which stays where there is no colour.
"""


def width_of(stream: TextIO | None) -> int | None:
    """The columns of the terminal that a stream writes to; None where that is no terminal: in a pipe, a file or a mail."""
    try:
        if stream is None or not stream.isatty():
            return None
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return None


def wrapped(sentence: str, width: int | None, *, indent: int = 2) -> str:
    """The sentence in lines of at most `width` columns, all but the first indented; one line where `width` is None.

    A word or a command between backticks that is longer stands on a line of its own, whole: the terminal breaks it, and copies it as one.
    """
    if width is None or len(sentence) <= width:
        return sentence
    lines: list[str] = []
    line = ""
    for piece in re.findall(_PIECE, sentence):
        if line and len(line) + 1 + len(piece) > width:
            lines.append(line)
            line = " " * indent + piece
        else:
            line = f"{line} {piece}" if line else piece
    return "\n".join([*lines, line])
