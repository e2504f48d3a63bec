"""Reads what the store has about a job and about one moment of it, for `why`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.fires import Fire, Pause, ScheduleInForce
from taskpilot.domain.reasons import Fact
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.times import BootTime
from taskpilot.messages.moments import MomentRecord
from taskpilot.schedules.schedule import schedule_of
from taskpilot.store import fires, runs, schedulers, schedules
from taskpilot.store.database import Transaction

_FAR: Final = timedelta(days=400)
"""How far back the previous fire is searched: a year and some leap days."""
TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is known about a job."""

    name: str
    spec: JobSpec | None
    """None where its file is broken or deleted."""
    broken: str
    """Why its file cannot be loaded; empty where it can, or was deleted."""
    schedules: tuple[ScheduleInForce, ...]
    """Every schedule that the store has of it, oldest first."""
    latest: Fire | None
    """Its latest fire up to now that has a row."""
    paused: Pause | None
    """The pause in force now."""
    defined: bool
    """Whether a file defines it, or seems to: `why` loads none."""

    @property
    def zone(self) -> str:
        """The time zone of its schedule."""
        schedule = self.spec.schedule if self.spec is not None else None
        if schedule is None and self.schedules:
            schedule = readable(self.schedules[-1])
        return "UTC" if schedule is None else schedule.zone

    def schedule_at(self, moment: datetime) -> ScheduleInForce | None:
        """The schedule in force at a moment; a fire at the instant of a change belongs to the old one."""
        return next((one for one in self.schedules if one.since < moment and (one.until is None or moment <= one.until)), None)

    def before(self, moment: datetime) -> datetime | None:
        """The last fire before a moment, by the schedules that were in force."""
        for one in reversed(self._all(moment)):
            schedule, end = readable(one), min(moment - TICK, one.until or moment)
            if schedule is not None and one.since < end:
                fire = schedule.latest_at_or_before(end, within=min(end - one.since - TICK, _FAR))
                if fire is not None:
                    return fire
        return None

    def after(self, moment: datetime) -> datetime | None:
        """The first fire after a moment, by the schedules that were in force; in the future, by the job's file."""
        for one in self._all(moment):
            schedule, start = readable(one), max(moment, one.since)
            fire = None if schedule is None or (one.until and one.until <= moment) else schedule.next_after(start)
            if fire is not None and (one.until is None or fire <= one.until):
                return fire
        return None

    def _all(self, moment: datetime) -> Sequence[ScheduleInForce]:
        """The recorded schedules; if there are none, that of the job's file, as if it had always been in force."""
        if self.schedules or self.spec is None or self.spec.schedule is None:
            return self.schedules
        return (ScheduleInForce(self.name, self.spec.schedule.describe(), moment - _FAR),)


def read_job(deployment: Deployment, connection: Transaction | None, job: str, now: datetime) -> JobRecord:
    """What the job folder and the store have about a job. Raises UsageError or ConfigurationError if neither has it."""
    known: list[ScheduleInForce] = []
    latest, paused = None, None
    if connection is not None:
        known = schedules.schedules_of(connection, job)
        latest = next(iter(fires.fires_page(connection, job=job, before=now + TICK, limit=1)), None)
        paused = schedules.pauses_in_force(connection).get(job)
    spec, broken, unread = None, "", False
    try:
        catalog = deployment.known_catalog
        spec, unread = catalog.jobs.get(job), job in catalog.loading
        if spec is None:
            broken = "; ".join(str(file) for file in catalog.broken if job in file.names)
    except ConfigurationError as error:
        broken = str(error)
    if spec is None and not known and latest is None and paused is None:
        # Nothing is recorded of it: only its file can say whether it exists.
        spec = deployment.job(job)
    return JobRecord(job, spec, broken, tuple(known), latest, paused, defined=spec is not None or unread)


def read_moment(connection: Transaction, job: str, moment: datetime, boot: BootTime) -> MomentRecord:
    """A fire's row or the gap that contains it, with the runs, pauses and clock events that belong to it."""
    fire = fires.get_fire(connection, job, moment)
    gap = None if fire is not None else fires.gap_at(connection, job, moment)
    if gap is not None and not names(readable_text(gap.schedule), moment):
        gap = None
    found = fire or gap
    facts = {} if found is None else found.reason.facts
    other, when = facts.get("run_id"), _instant(facts.get("fire"))
    return MomentRecord(
        fire=fire,
        gap=gap,
        run=runs.get_run(connection, fire.run_id) if fire is not None and fire.run_id else None,
        other_run=runs.get_run(connection, other) if isinstance(other, str) else None,
        other_fire=fires.get_fire(connection, job, when) if when is not None else None,
        pause=schedules.pause_at(connection, job, moment),
        clock=tuple(schedulers.clock_events_at(connection, moment)),
        scheduler_runs=bool(schedulers.awake_schedulers(connection, boot)),
        last_tick=schedulers.last_tick(connection),
    )


def _instant(fact: Fact) -> datetime | None:
    """The instant in a fact; None if it holds none."""
    try:
        return datetime.fromisoformat(fact) if isinstance(fact, str) else None
    except ValueError:
        return None


def names(schedule: Schedule | None, moment: datetime) -> bool:
    """Whether the moment is a fire of the schedule."""
    return schedule is not None and schedule.next_after(moment - TICK) == moment


def readable(force: ScheduleInForce) -> Schedule | None:
    """The schedule; None where another version wrote it."""
    return readable_text(force.schedule)


def readable_text(text: str) -> Schedule | None:
    """The schedule of a description; None where another version wrote it."""
    try:
        return schedule_of(text)
    except ValueError:
        return None
