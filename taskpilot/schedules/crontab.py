"""A crontab line in a time zone: the wall-clock minutes that it names, and their instants."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELDS: Final = ("minute", "hour", "day-of-month", "month", "day-of-week")
_LARGEST: Final = (59, 23, 31, 12, 7)
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_REACH: Final = timedelta(days=366 * 50)
"""How far the search for a next date goes; the longest gap is 40 years (29 February on one weekday, across 2100)."""
_ONE_DAY: Final = timedelta(days=1)
_ONE_MINUTE: Final = timedelta(minutes=1)
_TICK: Final = timedelta(microseconds=1)
_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""cronsim needs a start time; only its parsed fields are used."""


def normalise(expression: object) -> str:
    """The five fields of a crontab line, in lower case with single spaces. Raises ValueError that names what is wrong."""
    if not isinstance(expression, str) or not expression.isascii() or not expression.strip():
        raise ValueError(f'{expression!r} is not a crontab expression; write five fields, like "0 7 * * mon-fri"')
    parts = expression.lower().split()
    if parts[0].startswith("@"):
        return _macro(expression, parts)
    if len(parts) == 6:
        raise ValueError(f"{expression!r} has six fields: seconds are not part of crontab's grammar; use five, or every(...) for a period")
    if len(parts) != 5:
        raise ValueError(f"{expression!r} has {len(parts)} field(s); a crontab expression has five: {' '.join(FIELDS)}")
    for name, largest, part in zip(FIELDS, _LARGEST, parts, strict=True):
        _check_extensions(expression, name, largest, part)
    line = " ".join(parts)
    _parse(line)
    if next(_dates(line, date(2000, 1, 1)), None) is None:
        raise ValueError(f"{expression!r} names a date that does not exist, so it would never fire")
    return line


def _macro(expression: str, parts: list[str]) -> str:
    if parts == ["@reboot"]:
        raise ValueError("@reboot has no time, so no fire can be recorded for it; use a schedule, or start the job from a systemd unit")
    if len(parts) != 1 or parts[0] not in MACROS:
        raise ValueError(f"{expression!r} is not known; use one of {', '.join(MACROS)}")
    return MACROS[parts[0]]


def _check_extensions(expression: str, name: str, largest: int, part: str) -> None:
    """Refuses what other crons read differently or not at all: an exported line must mean the same there."""
    for term in part.split(","):
        if "#" in term or "?" in term or (name.startswith("day") and ("l" in term or "w" in term.replace("wed", ""))):
            raise ValueError(f"{expression!r}: {term!r} ({name}) is Quartz's grammar (L, W, #, ?), not crontab's")
        head, slash, step = term.partition("/")
        if slash and (head.isdigit() or head in _DAYS + _MONTHS):
            raise ValueError(f"{expression!r}: crons read {term!r} ({name}) differently; write {head}-{largest}/{step}")


@dataclass(frozen=True, slots=True)
class _Fields:
    """The parsed five fields."""

    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    months: frozenset[int]
    match_day: Callable[[date], bool]
    """Checks day-of-month and day-of-week, but not the month."""
    elapsed: bool
    """True where the minute or the hour begins with `*`."""


@lru_cache(maxsize=256)
def _parse(line: str) -> _Fields:
    """The parsed fields, with cronsim's grammar and its matching of days.

    The conversion from wall clock to instant is our own: cronsim 2.8 loses fires where a zone shifts by half an hour (Lord Howe), and fires
    at a midnight that does not exist (Santiago) when it comes from a day that does not match.
    """
    from cronsim import CronSim, CronSimError

    try:
        parsed = CronSim(_without_useless_steps(line), _ANY_TIME)
    except (CronSimError, ValueError, AssertionError, RecursionError):
        raise ValueError(_error_text(line)) from None
    minute, hour = line.split()[:2]
    return _Fields(
        hours=tuple(sorted(parsed.hours)),
        minutes=tuple(sorted(parsed.minutes)),
        months=frozenset(parsed.months),
        match_day=parsed.match_day,
        elapsed=minute.startswith("*") or hour.startswith("*"),
    )


def _without_useless_steps(line: str) -> str:
    """The line with `5-5/15` as `5`, its meaning; cronsim 2.8 reads it as `5-59/15`."""
    from cronsim.cronsim import Field

    def term(field: Field, text: str) -> str:
        head, slash, step = text.partition("/")
        useless = slash and "-" in head and step.strip("0").isdigit() and len(field.parse(head.upper())) == 1
        return head if useless else text

    parts = zip(list(Field)[1:], line.split(), strict=True)
    return " ".join(",".join(term(field, text) for text in part.split(",")) for field, part in parts)


def _error_text(line: str) -> str:
    """Names the wrong field, found by parsing each one alone."""
    from cronsim import CronSim, CronSimError

    parts = line.split()
    for index, (name, part) in enumerate(zip(FIELDS, parts, strict=True)):
        alone = ["*"] * 5
        alone[index] = part
        try:
            CronSim(" ".join(alone), _ANY_TIME)
        except (CronSimError, ValueError, AssertionError, RecursionError):
            article = "an" if name == "hour" else "a"
            hint = "; a range does not wrap round, write sat,sun" if name == "day-of-week" and "-" in part else ""
            return f"{line!r}: {part!r} is not {article} {name}{hint}"
    return f"{line!r} names a date that does not exist, so it would never fire"


def _dates(line: str, start: date) -> Iterator[date]:
    """Dates that the line names, from `start` on, for 50 years at most."""
    fields = _parse(line)
    day, last = start, start + _REACH if start < date.max - _REACH else date.max
    while day <= last:
        if day.month not in fields.months:
            day = (day.replace(day=1) + timedelta(days=32)).replace(day=1) if day.year < date.max.year else last
            if day == last:
                return
            continue
        if fields.match_day(day):
            yield day
        if day == date.max:
            return
        day += _ONE_DAY


@dataclass(frozen=True, slots=True)
class Crontab:
    """A normalised line in a zone.

    A line whose minute or hour begins with `*` follows elapsed time: it fires at each instant whose wall clock it names. Any other line is
    a fixed time: a skipped one fires at the first valid instant after it, a repeated one at its first occurrence (Vixie's rules).
    """

    line: str
    zone: str

    @property
    def elapsed(self) -> bool:
        """True where it follows elapsed time, false where it is a fixed time."""
        return _parse(self.line).elapsed

    def names(self, wall: datetime) -> bool:
        """True where the line names this minute of a clock; `wall` has no zone."""
        fields = _parse(self.line)
        named = wall.minute in fields.minutes and wall.hour in fields.hours and wall.month in fields.months
        return named and fields.match_day(wall.date())

    def first_after(self, moment: datetime) -> datetime | None:
        """The first instant after `moment`, in UTC."""
        best: datetime | None = None
        try:
            for day in _dates(self.line, self._date(moment) - 2 * _ONE_DAY):
                # Where the clock is set back over midnight, the instants of two days overlap.
                if best is not None and day > self._date(best) + _ONE_DAY:
                    break
                here = _instants(self.line, self.zone, day)
                at = bisect_right(here, moment)
                later = here[at : at + 1]
                best = min([*later, best] if best else later, default=None)
        except OverflowError:
            return best
        return best

    def last_until(self, moment: datetime, *, since: datetime) -> datetime | None:
        """The last instant in the closed interval [since, moment], in UTC."""
        best: datetime | None = None
        day, first = self._date(moment) + 2 * _ONE_DAY, self._date(since) - 2 * _ONE_DAY
        fields = _parse(self.line)
        while day >= first and (best is None or day >= self._date(best) - _ONE_DAY):
            if day.month in fields.months and fields.match_day(day):
                here = [instant for instant in _instants(self.line, self.zone, day) if since <= instant <= moment]
                best = max([*here, best] if best else here, default=None)
            day -= _ONE_DAY
        return best

    def count_between(self, start: datetime, end: datetime) -> int:
        """The number of instants in (start, end]; days without a change of the clock are counted, not searched."""
        fields = _parse(self.line)
        a_day = len(fields.hours) * len(fields.minutes)
        count, counted_to, day = 0, start, self._date(start) + _ONE_DAY
        while day < self._date(end):
            if self._has_constant_offset(day):
                count += self._count_each(counted_to, self._midnight(day) - _TICK)
                count += a_day if day.month in fields.months and fields.match_day(day) else 0
                counted_to = self._midnight(day + _ONE_DAY) - _TICK
            day += _ONE_DAY
        return count + self._count_each(counted_to, end)

    def _count_each(self, start: datetime, end: datetime) -> int:
        count = 0
        while start < end and (instant := self.first_after(start)) is not None and instant <= end:
            count, start = count + 1, instant
        return count

    def _has_constant_offset(self, day: date) -> bool:
        """True if the clock is not changed on the day, the one before or the one after, so that no instants overlap."""
        zone = ZoneInfo(self.zone)
        offsets = {datetime.combine(day + number * _ONE_DAY, time(0), zone).utcoffset() for number in (-1, 0, 1, 2)}
        return len(offsets) == 1

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(0), ZoneInfo(self.zone)).astimezone(UTC)

    def _date(self, moment: datetime) -> date:
        return moment.astimezone(ZoneInfo(self.zone)).date()


@lru_cache(maxsize=512)
def _instants(line: str, zone: str, day: date) -> tuple[datetime, ...]:
    """The instants that the line names on a date it names, ascending, in UTC."""
    fields = _parse(line)
    where = ZoneInfo(zone)
    walls = [datetime.combine(day, time(hour, minute)) for hour in fields.hours for minute in fields.minutes]
    begin, end = datetime.combine(day, time(0), where), datetime.combine(day + _ONE_DAY, time(0, fold=1), where)
    offset = begin.utcoffset()
    if offset == end.utcoffset() and offset is not None:
        return tuple((wall - offset).replace(tzinfo=UTC) for wall in walls)
    found = {instant for wall in walls for instant in (_occurrences(wall, where) if fields.elapsed else (_once(wall, where),))}
    return tuple(sorted(found))


def _occurrences(wall: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """The instants, none to two, at which clocks in the zone show `wall`."""
    for fold in (0, 1):
        instant = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
            yield instant


def _once(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant at which clocks show `wall`, else the first whole minute after the gap that skips it."""
    while (instant := next(_occurrences(wall, zone), None)) is None:
        wall += _ONE_MINUTE
    return instant
