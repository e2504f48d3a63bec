"""Nights on which a zone's clock is set: which of a schedule's times the clock skips or repeats, and what happens then."""

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
"""A year, and the month in which Easter or Ramadan may move a change of clocks."""
WARNINGS_MAX: Final = 4
"""Warnings of one job: two settings of a clock in a year are usual, four are Morocco's."""
_ONE_DAY: Final = timedelta(days=1)
_ONE_MINUTE: Final = timedelta(minutes=1)
_ONE_SECOND: Final = timedelta(seconds=1)


class ChangeKind(StrEnum):
    """What the clock does with the times between its old and its new face."""

    GAP = "gap"
    """Set forward: no instant shows them."""
    FOLD = "fold"
    """Set back: two instants show each."""


@dataclass(frozen=True, slots=True)
class ClockChange:
    """One setting of a zone's clock."""

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
    """Times of a schedule that the clock skips or repeats on one night, so that the job does not run as on other days."""

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
    """The settings of a zone's clock after an instant in UTC, ascending. Kept, as many jobs share a zone."""
    return tuple(_changes(zone, start, start + within))


def clock_warnings(schedule: Schedule | None, start: datetime, *, within: timedelta = LOOK_AHEAD) -> list[ClockWarning]:
    """The next warnings after an instant in UTC, at most `WARNINGS_MAX`; none where no time of the schedule is skipped or repeated.

    Only the minutes that a clock skips or repeats are looked at, so a schedule of every minute costs no more than one of every day.
    A schedule by elapsed time is warned of only where its rhythm breaks: `0 * * * *` comes each hour on those nights too.
    """
    if not isinstance(schedule, Cron):
        return []
    warnings = (_warning(schedule, change) for change in clock_changes(schedule.zone, start, within=within))
    return list(islice((warning for warning in warnings if warning is not None), WARNINGS_MAX))


def _changes(zone: str, start: datetime, end: datetime) -> Iterator[ClockChange]:
    """Found day by day, then to the second: no zone sets its clock twice in a day."""
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
    walls = tuple(wall for wall in change.walls if crontab.names(wall) and not (elapsed and _goes_on(crontab, wall, shift)))
    return ClockWarning(change, walls, elapsed) if walls else None


def _goes_on(crontab: Crontab, wall: datetime, shift: timedelta) -> bool:
    """True where elapsed time loses and adds nothing: till the day ends, each time later by the shift stands in for the one before."""
    later = wall + shift
    while crontab.names(later):
        later += shift
        if later.date() != wall.date():
            return True
    return False


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    # The face of the clock less the instant, as freezegun's datetime forgets on its way to a zone which of two equal faces it shows.
    return instant.astimezone(zone).replace(tzinfo=None) - instant.replace(tzinfo=None)
