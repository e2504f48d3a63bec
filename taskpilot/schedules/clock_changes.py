"""Changes of daylight saving time: which times of a schedule the clock skips or repeats, and what happens then."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from taskpilot.domain.schedule import Schedule
from taskpilot.schedules.crontab import Crontab
from taskpilot.schedules.schedule import Cron

LOOK_AHEAD: Final = timedelta(days=400)
"""A year and a month: the date of a change may move by a month, for example with Ramadan."""
WARNINGS_MAX: Final = 4
"""Warnings of one job: most zones change the clock twice a year, Morocco four times."""
_ONE_DAY: Final = timedelta(days=1)
_ONE_MINUTE: Final = timedelta(minutes=1)
_ONE_SECOND: Final = timedelta(seconds=1)


class ChangeKind(StrEnum):
    """Whether a change skips or repeats times."""

    GAP = "gap"
    """The clock is set forward and skips times."""
    FOLD = "fold"
    """The clock is set back and repeats times."""


@dataclass(frozen=True, slots=True)
class ClockChange:
    """One change of a zone's clock."""

    zone: str
    at: datetime
    """The first instant of the new offset, in UTC."""
    before: timedelta
    after: timedelta

    @property
    def kind(self) -> ChangeKind:
        """Whether times are skipped or repeated."""
        return ChangeKind.GAP if self.after > self.before else ChangeKind.FOLD

    @property
    def walls(self) -> Iterator[datetime]:
        """The minutes that the clock skips or repeats, ascending, without a zone."""
        low, high = sorted((self.before, self.after))
        wall, end = ((self.at + offset).replace(tzinfo=None) for offset in (low, high))
        while wall < end:
            yield wall
            wall += _ONE_MINUTE


@dataclass(frozen=True, slots=True)
class ClockWarning:
    """The times of a schedule that one change of the clock skips or repeats."""

    change: ClockChange
    walls: tuple[datetime, ...]
    """The times, ascending, without a zone; at least one."""
    elapsed: bool
    """True where the schedule follows elapsed time."""

    @property
    def sentence(self) -> str:
        """Like "on Sun 2027-03-28 the clock in Europe/Berlin skips 02:30; the job runs at 03:00 CEST, once"."""
        verb = "skips" if self.change.kind is ChangeKind.GAP else "repeats"
        return f"on {self.walls[0]:%a %Y-%m-%d} the clock in {self.change.zone} {verb} {self._times}; {self._what_happens}"

    @property
    def _times(self) -> str:
        first, last = (f"{wall:%H:%M}" for wall in (self.walls[0], self.walls[-1]))
        match len(self.walls):
            case 1:
                return first
            case 2:
                return f"{first} and {last}"
            case count:
                return f"{first} to {last} ({count} fires)"

    @property
    def _what_happens(self) -> str:
        zone = ZoneInfo(self.change.zone)
        match self.change.kind, self.elapsed:
            case ChangeKind.GAP, False:
                return f"the job runs at {self.change.at.astimezone(zone):%H:%M %Z}, once"
            case ChangeKind.FOLD, False:
                old = f"{(self.change.at - _ONE_SECOND).astimezone(zone):%Z}"
                first = f", at the first {self._times}" if len(self.walls) == 1 else " at each, the first time"
                return f"the job runs once{first} ({old})"
            case ChangeKind.GAP, _:
                return "the job does not run then: a * follows elapsed time"
            case _:
                return "the job runs both times: a * follows elapsed time"


@lru_cache(maxsize=64)
def clock_changes(zone: str, start: datetime, *, within: timedelta = LOOK_AHEAD) -> tuple[ClockChange, ...]:
    """The changes of a zone's clock after an instant in UTC, ascending; cached, since many jobs share a zone."""
    return tuple(_changes(zone, start, start + within))


def clock_warnings(schedule: Schedule | None, start: datetime, *, within: timedelta = LOOK_AHEAD) -> list[ClockWarning]:
    """The next warnings after an instant in UTC, at most `WARNINGS_MAX`; none where no time of the schedule is skipped or repeated.

    Only the skipped and repeated minutes are checked, so a minutely schedule costs no more than a daily one. A schedule by elapsed time
    gets a warning only if its intervals change: `0 * * * *` fires each hour on those nights too.
    """
    if not isinstance(schedule, Cron):
        return []
    warnings = (_warning(schedule, change) for change in clock_changes(schedule.zone, start, within=within))
    return list(islice((warning for warning in warnings if warning is not None), WARNINGS_MAX))


def _changes(zone: str, start: datetime, end: datetime) -> Iterator[ClockChange]:
    """Searches day by day, then to the second: no zone changes its clock twice in a day."""
    where = ZoneInfo(zone)
    while start < end:
        low, high = start, min(start + _ONE_DAY, end)
        start, before, after = high, _offset(where, low), _offset(where, high)
        if before == after:
            continue
        while high - low > _ONE_SECOND:
            middle = low + (high - low) / 2
            low, high = (middle, high) if _offset(where, middle) == before else (low, middle)
        yield ClockChange(zone, high.replace(microsecond=0), before, after)


def _warning(schedule: Cron, change: ClockChange) -> ClockWarning | None:
    crontab = schedule.crontab
    elapsed = crontab.elapsed
    shift = abs(change.after - change.before)
    walls = tuple(wall for wall in change.walls if crontab.names(wall) and not (elapsed and _interval_kept(crontab, wall, shift)))
    return ClockWarning(change, walls, elapsed) if walls else None


def _interval_kept(crontab: Crontab, wall: datetime, shift: timedelta) -> bool:
    """True if no interval changes: until the day ends, the schedule also has each time that is later by the shift."""
    later = wall + shift
    while crontab.names(later):
        later += shift
        if later.date() != wall.date():
            return True
    return False


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    # Not utcoffset(): freezegun's datetime loses `fold` when it is converted to a zone.
    return instant.astimezone(zone).replace(tzinfo=None) - instant.replace(tzinfo=None)
