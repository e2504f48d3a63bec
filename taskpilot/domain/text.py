"""Makes untrusted text safe to print: control and bidirectional characters are escaped."""

import re
import unicodedata
from typing import Final

_FENCED: Final = re.compile(r"```(?:[a-zA-Z]*[ \t]*\n|json)?(.*?)(?:```)?", re.DOTALL)

_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories that move a cursor, reorder or hide text: controls, formats (bidi among them), surrogates, separators."""


def printable(text: str, *, keep_newlines: bool = False) -> str:
    """The text with every control, bidi or invisible character written as its escape (`\\x1b`, `\\u202e`)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if (character == "\n" and keep_newlines) or unicodedata.category(character) not in _UNSAFE
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def storable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can hold and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def unfenced(text: str) -> str:
    """The content of a text that is one fenced block of Markdown; any other text without outer spaces."""
    plain = text.strip()
    fenced = _FENCED.fullmatch(plain)
    return plain if fenced is None else fenced[1].strip()


def said(error: BaseException) -> str:
    """Type and message of an error; the type alone where it has no message."""
    words = words_of(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def words_of(error: BaseException) -> str:
    """The message of an error and its hint, also where its `__str__` raises."""
    try:
        return str(getattr(error, "one_line", None) or error)
    except Exception:
        return "(an error that cannot be shown)"


def one_line(text: str, *, limit: int = 200) -> str:
    """Printable, on one line, at most `limit` characters."""
    flat = printable(" ".join(text[: limit * 4].split()))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
