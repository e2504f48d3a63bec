"""Instants as the store keeps them (whole microseconds since 1970 in UTC), the boot clock, and durations as people write them."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch; exact, no float on the way. Raises ValueError for a naive time."""
    if moment.tzinfo is None:
        raise ValueError("the time has no time zone")
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The instant in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def utc_now() -> datetime:
    """The wall clock, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class BootTime:
    """A time since the start of the machine, suspended time included. Nobody can set this clock."""

    boot_id: str
    """Two times can be compared only where it is the same."""
    micros: int

    def __add__(self, other: timedelta) -> "BootTime":
        """A later time of the same boot."""
        return BootTime(self.boot_id, self.micros + other // timedelta(microseconds=1))


def boot_time() -> BootTime:
    """The boot clock."""
    return BootTime(boot_id(), round(boot_seconds() * 1_000_000))


def boot_seconds() -> float:
    """The boot clock in seconds; only differences mean something."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@cache
def boot_id() -> str:
    """Identifies this start of the machine; empty where the system has no such id."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def utc_iso(moment: datetime, *, timespec: str = "auto") -> str:
    """ISO 8601 in UTC with `Z`. "auto" leaves out a fraction of zero; "seconds", "milliseconds" and "microseconds" have a fixed width."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).removesuffix("+00:00") + "Z"


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
            raise ValueError(f"{value!r} is too long") from None
    else:
        raise ValueError(f'{value!r} is not a duration; write it like "90s", "15m" or "1h30m"')
    if duration <= timedelta(0):
        raise ValueError(f"{value!r} is not longer than zero")
    return duration


def parse_past(text: str, now: datetime) -> datetime:
    """The instant of "18:00" (the latest one), "12h" (ago), "today", "yesterday", a date, or a time; local time where it has no offset.

    Raises ValueError that shows the forms.
    """
    local = now.astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    try:
        if text in ("today", "yesterday"):
            return local_instant(midnight - timedelta(days=text == "yesterday"))
        if _WHOLE.fullmatch(text):
            return now - parse_duration(text)
        if re.fullmatch(r"\d{1,2}:\d{2}", text, re.ASCII):
            hour, minute = map(int, text.split(":"))
            wall = midnight.replace(hour=hour, minute=minute)
            return local_instant(wall if local_instant(wall) <= now else wall - timedelta(days=1))
        typed = datetime.fromisoformat(text)
        return local_instant(typed) if typed.tzinfo is None else typed.astimezone(UTC)
    except (ValueError, OverflowError):
        shown = "18:00, 12h, yesterday, 2026-11-24, 2026-11-24T07:00 or 2026-11-24T07:00+01:00"
        raise ValueError(f"{text[:40]!r} is not a time; write it like {shown}") from None


def parse_until(text: str) -> datetime:
    """The end of a day ("2026-12-31", which is included), or a time; local time where it has no offset. Raises ValueError."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            return local_instant(datetime.fromisoformat(text) + timedelta(days=1))
        typed = datetime.fromisoformat(text)
        return local_instant(typed) if typed.tzinfo is None else typed.astimezone(UTC)
    except (ValueError, OverflowError):
        shown = "2026-12-31, 2026-12-31T18:00 or 2026-12-31T18:00+01:00"
        raise ValueError(f"{text[:40]!r} is not a time; write it like {shown}") from None


def local_instant(wall: datetime) -> datetime:
    """The instant of a wall-clock time in the zone of this machine; of one that a clock change skips, that of the time an hour later."""
    # `wall.astimezone()` would give the time an hour earlier.
    return datetime.fromtimestamp(wall.timestamp(), UTC)


@lru_cache(maxsize=1024)
def format_duration(duration: timedelta) -> str:
    """The text that `parse_duration` reads back, as short as it gets: "1h30m". What is finer than a millisecond is dropped."""
    rest = duration // timedelta(microseconds=1)
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
