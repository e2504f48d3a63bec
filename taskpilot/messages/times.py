"""Instants, time zones and pauses in words."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from taskpilot.domain.fires import ClockEvent, ClockEventKind, Pause
from taskpilot.domain.times import utc_iso

Time = Callable[[datetime], str]
"""Writes an instant."""
_SECONDS: Final[Time] = partial(utc_iso, timespec="seconds")
_CLOCK_EVENTS = {
    ClockEventKind.ASLEEP: "no scheduler was running from {} to {}",
    ClockEventKind.FORWARD: "the clock was set forward from {} to {}",
    ClockEventKind.BACKWARD: "the clock was set back from {} to {}",
    ClockEventKind.CURSOR: "a clock that was ahead had recorded scheduled times up to {}; the job is due again since {}",
}


def local(moment: datetime, zone: str) -> str:
    """Like `Tue 2026-11-24 07:00 (Europe/Berlin)`."""
    exact = "%H:%M:%S" if moment.second or moment.microsecond else "%H:%M"
    return f"{moment.astimezone(ZoneInfo(zone)).strftime(f'%a %Y-%m-%d {exact}')} ({zone})"


def zone_change(at: datetime, before: timedelta, after: timedelta, zone: str) -> str:
    """A change of a zone's offset from `before` to `after`, and what it means for a schedule."""
    old, new = ((at + offset).strftime("%H:%M") for offset in (before, after))
    skipped = after > before
    meaning = (
        "a scheduled time in between is due at the first instant after it"
        if skipped
        else "a scheduled time that comes twice is due only the first time"
    )
    return f"{utc_iso(at)}, {old} became {new} in {zone}: {meaning}"


def read_as(zone: str, *, skipped: bool = False, second: datetime | None = None) -> str:
    """How a time without an offset was read. `skipped`: the clock skipped it; `second`: the later of two occurrences."""
    if skipped:
        return f"read in {zone}, where the clock skipped it; taken as the first instant after it"
    if second is not None:
        return f"read in {zone}, where it came twice; taken as the first, the second was {utc_iso(second)}"
    return f"read in {zone}"


def clock_event(event: ClockEvent, time: Time = utc_iso) -> str:
    """Like `no scheduler was running from 2026-11-24T06:00:00Z to 2026-11-24T08:00:00Z`."""
    return _CLOCK_EVENTS[event.kind].format(time(event.start), time(event.end))


def paused(pause: Pause, time: Time = _SECONDS) -> str:
    """Like `paused since 2026-11-25T20:00:00Z by anna: the tracker moves`."""
    return f"paused {pause_words(pause, time)}"


def pause_words(pause: Pause, time: Time = _SECONDS) -> str:
    """Like `since 2026-11-25T20:00:00Z by anna: the tracker moves`."""
    return f"since {time(pause.paused_at)} by {pause.paused_by}" + (f": {pause.note}" if pause.note else "")


def pause_end(pause: Pause, time: Time = _SECONDS) -> str:
    """Like `ended 2026-11-26T08:00:00Z by bob: moved`, or that it is still in force."""
    if pause.resumed_at is None:
        return "still in force"
    return f"ended {time(pause.resumed_at)} by {pause.resumed_by}" + (f": {pause.resume_note}" if pause.resume_note else "")
