"""Finds overdue jobs: fires that did not start, and jobs without a success for too long."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol

from taskpilot.domain.fires import PUNCTUAL, ScheduleInForce
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.times import to_micros
from taskpilot.schedules.schedule import Cron, catch_up_window
from taskpilot.views.job_facts import widest_gap


class Planned(Protocol):
    """What is expected of a job: a JobSpec, or what the store has of it."""

    @property
    def name(self) -> str:
        """The job's name."""
        ...

    @property
    def schedule(self) -> Schedule | None:
        """When it is due."""
        ...

    @property
    def deadline(self) -> timedelta:
        """How long it may run."""
        ...

    @property
    def catch_up_window(self) -> timedelta | None:
        """How late it may start; None: as its schedule has it."""
        ...


@dataclass(frozen=True, slots=True)
class Overdue:
    """A job and the instant since which it is overdue: the fire that did not start, or the last success."""

    job: str
    since: datetime | None


def soonest_fire(specs: Iterable[Planned], now: datetime) -> datetime | None:
    """The earliest next fire of the jobs."""
    fires = (_next_fire(spec.schedule, now) for spec in specs if spec.schedule is not None)
    return min((fire for fire in fires if fire is not None), default=None)


def unmet_fires(
    specs: Iterable[Planned], known: Mapping[str, ScheduleInForce], claimed: Mapping[str, frozenset[int]], now: datetime
) -> list[Overdue]:
    """The first fire of each job that has no outcome and can no longer start, since its catch-up window has passed."""
    found = []
    for spec in specs:
        force = known.get(spec.name)
        if spec.schedule is None or force is None or force.cursor is None or force.schedule != spec.schedule.describe():
            continue
        fire = _first_after(spec.schedule, force.cursor)
        while fire is not None and to_micros(fire) in claimed.get(spec.name, ()):
            fire = _first_after(spec.schedule, fire)
        if fire is None or fire > now - PUNCTUAL:
            continue
        if fire <= now - max(PUNCTUAL, _window(spec.schedule, _hour(now), spec.catch_up_window)):
            found.append(Overdue(spec.name, fire))
    return found


def without_success(
    specs: Iterable[Planned], known: Mapping[str, ScheduleInForce], successes: Mapping[str, datetime], now: datetime
) -> list[Overdue]:
    """The jobs whose last success is older than their widest gap plus the deadline; `since` is None if there never was one.

    A job counts only if the first fire after its last success, plus its deadline, has passed: a night without fires is no alarm.
    """
    found = []
    for spec in specs:
        last = successes.get(spec.name)
        base = last or (known[spec.name].since if spec.name in known else None)
        if spec.schedule is None or base is None:
            continue
        fire = _first_after(spec.schedule, base)
        if fire is None or fire + spec.deadline >= now:
            continue
        gap = _widest_gap(spec.schedule, _hour(now))
        if gap is None or now - base > gap + spec.deadline:
            found.append(Overdue(spec.name, last))
    return found


def _next_fire(schedule: Schedule, now: datetime) -> datetime | None:
    # Fires of a crontab are whole minutes: one cached answer serves a minute.
    return _first_after(schedule, now.replace(second=0, microsecond=0)) if isinstance(schedule, Cron) else schedule.next_after(now)


def _hour(now: datetime) -> datetime:
    """Gaps and windows are cached for an hour: with many overdue jobs they were most of the cost."""
    return now.replace(minute=0, second=0, microsecond=0)


@lru_cache(maxsize=16_384)
def _first_after(schedule: Schedule, moment: datetime) -> datetime | None:
    """Cached: each health check asks this for thousands of jobs."""
    return schedule.next_after(moment)


@lru_cache(maxsize=16_384)
def _widest_gap(schedule: Schedule, hour: datetime) -> timedelta | None:
    return widest_gap(schedule, hour)


@lru_cache(maxsize=16_384)
def _window(schedule: Schedule, hour: datetime, chosen: timedelta | None) -> timedelta:
    return catch_up_window(schedule, hour, chosen=chosen)
