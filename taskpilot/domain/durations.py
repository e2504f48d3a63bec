"""Durations as people write them: "90s", "15m", "1h30m"."""

import re
from datetime import timedelta
from functools import lru_cache
from typing import Final

_UNITS: Final = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_WHOLE: Final = re.compile(r"(?:\d+(?:ms|s|m|h|d))+", re.ASCII)
_PART: Final = re.compile(r"(\d+)(ms|s|m|h|d)")


def parse_duration(value: str | timedelta) -> timedelta:
    """A positive timedelta from text like "15m" or "1h30m". Raises ValueError that shows the form."""
    if isinstance(value, timedelta):
        duration = value
    elif _WHOLE.fullmatch(str(value)):
        try:
            duration = timedelta(microseconds=sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
        except OverflowError:
            raise ValueError(f"{value!r} is longer than a calendar") from None
    else:
        raise ValueError(f'{value!r} is not a duration; write it like "90s", "15m" or "1h30m"')
    if duration <= timedelta(0):
        raise ValueError(f"{value!r} is not longer than zero")
    return duration


@lru_cache(maxsize=1024)
def format_duration(duration: timedelta) -> str:
    """The text that `parse_duration` reads back, as short as it gets: "1h30m". What is finer than a millisecond is dropped."""
    rest = duration // timedelta(microseconds=1)
    words = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"
