"""Periods as times of the day: what both a crontab and a timer can say of `every(...)`."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import Final

from taskpilot.domain.schedule import Every

_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
LINES_MAX: Final = 12
"""A period that needs more lines than these for one day is said better by a server."""


@dataclass(frozen=True, slots=True)
class Times:
    """Each hour with each minute with each second of the lists."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]


def times_of_day(schedule: Every) -> list[Times] | None:
    """The times of day in UTC, the same every day; None where the days differ, or too many lines would be needed."""
    if _DAY % schedule.period or schedule.period % _SECOND or schedule.anchor.microsecond:
        return None
    anchor = schedule.anchor
    first = timedelta(hours=anchor.hour, minutes=anchor.minute, seconds=anchor.second) % schedule.period // _SECOND
    step = schedule.period // _SECOND
    moments = [(second // 3600, second // 60 % 60, second % 60) for second in range(first, 86_400, step)]
    # First the seconds of each minute, then the minutes of each hour, then the hours with the same minutes and seconds.
    by_minute = [(key, tuple(moment[2] for moment in group)) for key, group in groupby(moments, key=itemgetter(0, 1))]
    by_seconds: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for (hour, minute), seconds in by_minute:
        by_seconds.setdefault((hour, seconds), []).append(minute)
    hours: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for (hour, seconds), minutes in by_seconds.items():
        hours.setdefault((tuple(minutes), seconds), []).append(hour)
    found = [Times(tuple(each), minutes, seconds) for (minutes, seconds), each in hours.items()]
    return found if len(found) <= LINES_MAX else None


def listed(values: tuple[int, ...], size: int, *, width: int = 1) -> str:
    """`*` for all of them, else a list; with zeros in front up to `width`."""
    return "*" if len(values) == size else ",".join(f"{value:0{width}}" for value in values)
