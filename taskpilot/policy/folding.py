"""Text made plain for comparing, so that a forbidden word cannot hide behind its spelling."""

import unicodedata
from typing import Any, Final

_MARKS: Final = frozenset({"Mn", "Me"})
_INVISIBLE: Final = frozenset({"Cf", "Co", "Cn"})


def fold(text: str) -> str:
    """The text with compatibility forms, accents and invisible characters resolved, controls as spaces, case folded."""
    if text.isascii() and text.isprintable():
        return text.lower()
    # Case folding may bring new marks (a dotted capital I does) and decomposing may bring new capitals (a bold one does): twice each way.
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).casefold()
    plain = []
    for character in decomposed:
        category = unicodedata.category(character)
        if category in _MARKS or category in _INVISIBLE:
            continue
        plain.append(" " if category in {"Cc", "Zl", "Zp"} else character)
    return unicodedata.normalize("NFC", "".join(plain))


def fold_values(value: Any) -> Any:
    """The same JSON value with every text in it folded; the keys of objects stay as they are."""
    if isinstance(value, str):
        return fold(value)
    if isinstance(value, list):
        return [fold_values(item) for item in value]
    if isinstance(value, dict):
        return {key: fold_values(item) for key, item in value.items()}
    return value
