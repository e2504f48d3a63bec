"""Values on their way into a log: plain, bounded, and without the secrets that we know."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

_MASK: Final = "***"
_SECRET_MIN: Final = 4
"""A shorter secret would be found in every second word."""
_TEXT_MAX: Final = 8_192
_ITEMS_MAX: Final = 256
_DEPTH_MAX: Final = 8


class Redactor:
    """Makes any value into what JSON can say, with known secrets masked and long texts cut."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted({one for one in secrets if len(one) >= _SECRET_MIN}, key=len, reverse=True)

    def masked(self, text: str) -> str:
        """The text with each secret as `***`."""
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return text

    def text(self, text: str) -> str:
        """The same, cut at 8,192 characters."""
        text = self.masked(text)
        return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"

    def plain(self, value: Any, *, changed: Callable[[str], None] | None = None) -> Any:
        """The value as JSON types. `changed` hears the JSON pointer of everything that was masked or cut."""
        return self._plain(value, "", 0, changed or _ignore)

    def _plain(self, value: Any, place: str, depth: int, changed: Callable[[str], None]) -> Any:
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if depth >= _DEPTH_MAX and isinstance(value, Mapping | list | tuple | set | frozenset):
            changed(place)
            return "…"
        if isinstance(value, Mapping):
            pairs = list(value.items())[:_ITEMS_MAX]
            if len(value) > _ITEMS_MAX:
                changed(place)
            return {
                key: self._plain(one, f"{place}/{_pointer(key)}", depth + 1, changed)
                for key, one in ((self.text(str(name)), one) for name, one in pairs)
            }
        if isinstance(value, list | tuple | set | frozenset):
            items = list(value)
            if len(items) > _ITEMS_MAX:
                changed(place)
            return [self._plain(one, f"{place}/{position}", depth + 1, changed) for position, one in enumerate(items[:_ITEMS_MAX])]
        text = as_text(value)
        shown = self.text(text)
        if shown != text:
            changed(place)
        return shown


def as_text(value: object) -> str:
    """What it says of itself; its type where it cannot even do that: an object of a job must not cost the line."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _ignore(_place: str) -> None:
    return
