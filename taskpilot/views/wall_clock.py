"""Reads a time that a person typed, in local time of a zone, with its changes of daylight saving time."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from taskpilot.domain.errors import UsageError
from taskpilot.domain.text import one_line
from taskpilot.messages.times import read_as, zone_change
from taskpilot.schedules.clock_changes import clock_changes

_YEARS: Final = (1971, 9_000)
"""The store has no time before 1970, and `datetime` ends in 9999."""
_NEAR: Final = timedelta(hours=3)
"""A change of daylight saving time moves a fixed time by less than this."""


_CLOCK: Final = re.compile(r"\d?\d:\d\d")


def asked_moment(text: str, zone: str, now: datetime) -> tuple[datetime, str]:
    """The instant of a typed time, and a sentence that says how a time without an offset was read.

    A time without an offset is local time in `zone`; one without a date is the latest before `now`. If the clock repeats it, the first one
    is meant; if the clock skips it, the first instant after the gap, as for a schedule. Raises UsageError.
    """
    try:
        if _CLOCK.fullmatch(text):
            wall = datetime.combine(now.astimezone(ZoneInfo(zone)).date(), time.fromisoformat(text.zfill(5)))
            today = _of_wall_clock(wall, ZoneInfo(zone))
            return today if today[0] <= now else _of_wall_clock(wall - timedelta(days=1), ZoneInfo(zone))
        when = datetime.fromisoformat(text)
        if not _YEARS[0] <= when.year <= _YEARS[1]:
            raise UsageError(f"--at {one_line(text, limit=80)}: the year must be from {_YEARS[0]} to {_YEARS[1]}")
        if when.tzinfo is not None:
            return when.astimezone(UTC), ""
        return _of_wall_clock(when, ZoneInfo(zone))
    except (ValueError, OverflowError):
        hint = "write it like 08:00 or 2026-12-24T08:00, in the job's zone, or with an offset"
        raise UsageError(f"--at {one_line(text, limit=80)} is not a time", hint=hint) from None


def clock_change(moment: datetime, zone: str) -> str:
    """The change of daylight saving time within three hours of an instant, as a sentence; empty without one."""
    change = next(iter(clock_changes(zone, moment - _NEAR, within=2 * _NEAR)), None)
    return "" if change is None else zone_change(change.at, change.before, change.after, zone)


def _of_wall_clock(wall: datetime, zone: ZoneInfo) -> tuple[datetime, str]:
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first.astimezone(zone).replace(tzinfo=None, fold=0) != wall:
        # In a gap, fold 0 counts with the offset of before and lands after the gap by as much as the wall time is inside of it.
        change = next(iter(clock_changes(zone.key, second, within=first - second)))
        return change.at, read_as(zone.key, skipped=True)
    return first, read_as(zone.key, second=second if first != second else None)
