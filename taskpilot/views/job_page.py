"""What the pages show of jobs: their last runs as bars, and a calendar of what became of their fires and of those to come."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from taskpilot.deployment import Deployment
from taskpilot.domain.runs import FireOutcome
from taskpilot.domain.schedule import Schedule
from taskpilot.store.page_queries import Bar, last_bars, open_questions, past_fires

_WEEKS_BACK: Final = 3
_WEEKS_AHEAD: Final = 2
_FIRES_MAX: Final = 2_000
"""Past and coming fires of a calendar, each; beyond them a day is not complete."""


@dataclass(slots=True)
class Day:
    """One day of a calendar, in the zone of the schedule."""

    date: date
    past: Counter[str] = field(default_factory=Counter)
    """How many fires came to each end: the state of their run, or the outcome of a fire that started none."""
    coming: int = 0
    is_today: bool = False
    complete: bool = True


def bars_of(deployment: Deployment, jobs: Iterable[str], number: int) -> dict[str, list[Bar]]:
    """The last runs of each job, the oldest first."""
    if deployment.store_is_missing:
        return {}
    with deployment.store.read() as connection:
        return last_bars(connection, jobs, number)


def questions_open(deployment: Deployment) -> int:
    """How many tool calls and tasks wait for a person."""
    if deployment.store_is_missing:
        return 0
    with deployment.store.read() as connection:
        return open_questions(connection)


def calendar(deployment: Deployment, job: str, schedule: Schedule | None) -> list[list[Day]]:
    """Weeks of seven days from Monday, some before this one and some after it. Raises StoreError or StoreBusy."""
    now = deployment.now()
    zone = ZoneInfo(schedule.zone if schedule else "UTC")
    today = now.astimezone(zone).date()
    first = today - timedelta(days=today.weekday(), weeks=_WEEKS_BACK)
    days = {one: Day(one, is_today=one == today) for number in range(7 * (_WEEKS_BACK + _WEEKS_AHEAD)) for one in [_after(first, number)]}
    start, end = (datetime.combine(_after(first, number), time(), zone) for number in (0, len(days)))
    with deployment.store.read() as connection:
        fires = past_fires(connection, job, start, _FIRES_MAX)
    for fire in fires:
        day = days.get(fire.at.astimezone(zone).date())
        if day is not None:
            word = fire.status.value if fire.status and fire.outcome is FireOutcome.STARTED else fire.outcome.value
            day.past[word] += fire.number
    if len(fires) >= _FIRES_MAX:
        oldest = min(fire.at for fire in fires).astimezone(zone).date()
        for day in days.values():
            day.complete = day.date > oldest
    if schedule is not None:
        _add_coming(days, schedule, now, end, zone)
    every = list(days.values())
    return [every[begin : begin + 7] for begin in range(0, len(every), 7)]


def _add_coming(days: dict[date, Day], schedule: Schedule, now: datetime, end: datetime, zone: ZoneInfo) -> None:
    last: date | None = None
    number = 0
    for fire in islice(schedule.between(now, end), _FIRES_MAX):
        last = fire.astimezone(zone).date()
        if last in days:
            days[last].coming += 1
            number += 1
    if number >= _FIRES_MAX and last is not None:
        for day in days.values():
            day.complete = day.complete and day.date < last


def _after(first: date, number: int) -> date:
    return first + timedelta(days=number)
