"""A cron of its own to compare with: it looks at every minute, and shares no line with taskpilot/domain.

The rules, as the contract (section 6) takes them from Vixie's cron in Debian:

- The clock of a zone is what zoneinfo says at each minute in UTC. `high` is the latest wall clock that was seen so far.
- A line whose minute or hour field begins with `*` (so `*`, `*/20`, and `*/2` hours with a fixed minute) follows elapsed time: it is due
  at each minute whose wall clock it names. What the clock skips is not made up for; what the clock repeats is due again.
- Any other line is a fixed time. It is due at the first minute at which the clock reaches or passes a time that it names: where the
  clock jumps forward over it, that is the first minute after the jump, once for all that the jump swallowed, the minute itself included.
  At or below `high` nothing is due, so a repeated time counts at its first occurrence only.
- A jump may swallow whole dates; a time on such a date is a time like any other.
- Both day fields must match where one of them begins with `*`, else either may.
- 0 and 7 are Sunday; a name stands for its number wherever a number may; `a-b/n` counts from a; a range does not wrap round.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
Walk = Sequence[tuple[datetime, datetime]]
"""Every minute: the instant in UTC, and the face of the clock without a zone."""


@dataclass(frozen=True)
class Line:
    """What a crontab line names."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both_days: bool
    elapsed: bool

    def names(self, face: datetime) -> bool:
        return face.minute in self.minutes and face.hour in self.hours and self.names_date(face)

    def names_date(self, day: date) -> bool:
        in_days, in_weekdays = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return day.month in self.months and (in_days and in_weekdays if self.both_days else in_days or in_weekdays)

    @property
    def possible(self) -> bool:
        """True where half a century has a date of it."""
        return any(self.names_date(date(2000, 1, 1) + days * DAY) for days in range(18_300))


@lru_cache(maxsize=4096)
def read(text: str) -> Line:
    """A line that is valid; this is no judge of lines that are not."""
    fields = WORDS.get(text.lower(), text.lower()).split()
    minute, hour, day, month, weekday = fields
    return Line(
        minutes=_numbers(minute, range(60)),
        hours=_numbers(hour, range(24)),
        days=_numbers(day, range(1, 32)),
        months=_numbers(month, range(1, 13), MONTHS, 1),
        weekdays=frozenset(number % 7 for number in _numbers(weekday, range(8), WEEKDAYS, 0)),
        both_days="*" in (day[0], weekday[0]),
        elapsed="*" in (minute[0], hour[0]),
    )


def _numbers(field: str, all_of_them: range, names: Sequence[str] = (), first: int = 0) -> frozenset[int]:
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        ends = [names.index(end) + first if end in names else int(end) for end in span.split("-")] if span != "*" else []
        begin, end = (ends[0], ends[-1]) if ends else (all_of_them[0], all_of_them[-1])
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def walk(zone: str, start: datetime, end: datetime) -> Walk:
    """The minutes of (start, end], and those of the day before, so that what the clock showed last is known."""
    where = ZoneInfo(zone)
    first = (start - DAY).replace(second=0, microsecond=0)
    count = (end - first) // MINUTE
    return [
        (instant, (instant + _offset(where, instant)).replace(tzinfo=None)) for n in range(count + 1) for instant in [first + n * MINUTE]
    ]


def due(line: Line, minutes: Walk, start: datetime) -> list[datetime]:
    """The fires after `start`, ascending, found by looking at each minute of the walk."""
    if line.elapsed:
        return [instant for instant, face in minutes if instant > start and line.names(face)]
    found, high = [], minutes[0][1]
    for instant, face in minutes:
        due_now = False
        while high < face:
            high += MINUTE
            due_now = due_now or line.names(high)
        if due_now and instant > start:
            found.append(instant)
    return found


def changes(zone: str, start: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    """The first instants at which a zone's offset is another one, found by looking every `step` and then closer, to the second."""
    where = ZoneInfo(zone)
    while start < end:
        low, high = start, min(start + step, end)
        start = high
        if _offset(where, low) == _offset(where, high):
            continue
        before = _offset(where, low)
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) // timedelta(seconds=2) * timedelta(seconds=1)
            low, high = (middle, high) if _offset(where, middle) == before else (low, middle)
        yield high


def face_at(zone: str, instant: datetime) -> datetime:
    """What the clock shows."""
    return (instant + _offset(ZoneInfo(zone), instant)).replace(tzinfo=None)


def _offset(where: ZoneInfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(where).utcoffset()
    assert offset is not None
    return offset


def every_fire(anchor: datetime, period: timedelta, start: datetime, end: datetime) -> list[datetime]:
    """The fires in (start, end], by stepping from the anchor one period at a time."""
    fire = anchor.astimezone(UTC)
    while fire > start:
        fire -= period
    found = []
    while fire <= end:
        if fire > start:
            found.append(fire)
        fire += period
    return found
