"""The base class of schedules: the instants at which a job is due."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from taskpilot.domain.times import EPOCH

_OLDEST: Final = EPOCH.replace(year=2)
"""A window of a thousand years must not leave the calendar."""


def in_utc(moment: datetime) -> datetime:
    """The same instant in UTC. Raises ValueError for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return moment.astimezone(UTC)


class Schedule(ABC):
    """The times (fires) at which a job is due. Hashable and comparable; every instant it gives is aware and in UTC."""

    __slots__ = ()

    @property
    def zone(self) -> str:
        """The IANA name of the zone whose wall clock it follows."""
        return "UTC"

    @abstractmethod
    def describe(self) -> str:
        """One line; different schedules have different descriptions."""

    def next_after(self, moment: datetime) -> datetime | None:
        """The first fire strictly after an aware time; None where none follows. Raises ValueError for a time without a zone."""
        return self._first_after(in_utc(moment))

    @abstractmethod
    def _first_after(self, moment: datetime) -> datetime | None:
        """The first fire strictly after an instant in UTC."""

    @abstractmethod
    def _last_until(self, moment: datetime, *, since: datetime) -> datetime | None:
        """The last fire in the closed interval [since, moment]."""

    def between(self, start: datetime, end: datetime, *, limit: int | None = None) -> Iterator[datetime]:
        """The fires in the half-open interval (start, end], ascending, the first `limit` of them."""
        start, end = in_utc(start), in_utc(end)
        return islice(self._fires(start, end), limit)

    def is_fire(self, moment: datetime) -> bool:
        """Whether it is due at exactly this instant."""
        moment = in_utc(moment)
        return self._last_until(moment, since=moment) == moment

    def count_between(self, start: datetime, end: datetime) -> int:
        """How many fires there are in (start, end]."""
        return sum(1 for _ in self.between(start, end))

    def latest_at_or_before(self, moment: datetime, *, within: timedelta) -> datetime | None:
        """The last fire at or before an aware time, not older than `within`; None where there is none."""
        moment = in_utc(moment)
        return self._last_until(moment, since=moment - min(within, moment - _OLDEST))

    def period_hint(self, moment: datetime) -> timedelta | None:
        """The time between the next two fires after `moment`; None where fewer than two follow."""
        first = self.next_after(moment)
        second = None if first is None else self.next_after(first)
        return None if first is None or second is None else second - first

    def _fires(self, start: datetime, end: datetime) -> Iterator[datetime]:
        fire = self.next_after(start)
        while fire is not None and fire <= end:
            yield fire
            fire = self.next_after(fire)
