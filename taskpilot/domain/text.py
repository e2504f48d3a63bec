"""Untrusted text on its way out: control and bidirectional characters made visible and harmless."""

import unicodedata
from typing import Final

_LOUD: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories that move a cursor, reorder or hide text: controls, formats (bidi among them), surrogates, separators."""


def printable(text: str, *, keep_newlines: bool = False) -> str:
    """The text with every control, bidi or invisible character written as its escape (`\\x1b`, `\\u202e`)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if (character == "\n" and keep_newlines) or unicodedata.category(character) not in _LOUD
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def storable(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can say and UTF-8, so the store and the wire, cannot."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def said(error: BaseException) -> str:
    """Type and words of an error; the type alone where it has no words, or breaks when it is asked for them."""
    words = words_of(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def words_of(error: BaseException) -> str:
    """The words of an error and its hint, also where it breaks when it is asked for them."""
    try:
        return str(getattr(error, "one_line", None) or error)
    except Exception:
        return "(an error that cannot be shown)"


def one_line(text: str, *, limit: int = 200) -> str:
    """Printable, on one line, at most `limit` characters."""
    flat = printable(" ".join(text[: limit * 4].split()))
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
