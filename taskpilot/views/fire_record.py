"""What the record says of one moment of one job, read in one transaction: the material of `why`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.fires import ClockEvent, Fire, Gap, Pause, ScheduleInForce
from taskpilot.domain.runs import FireOutcome, Run
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import JobSpec
from taskpilot.schedules.schedule import schedule_of
from taskpilot.store import fires, runs, schedulers, schedules
from taskpilot.store.database import Transaction

_FAR: Final = timedelta(days=400)
"""A fire before a moment is looked for as far back as this: a year and some leap days."""
TICK: Final = timedelta(microseconds=1)
_OURS: Final = (FireOutcome.SKIPPED_OVERLAP, FireOutcome.COALESCED, FireOutcome.MISSED, FireOutcome.BUFFERED)
"""Outcomes whose reasons are sentences of the ledger's own."""
_RUN: Final = re.compile(r"\brun ([0-9a-f]{8}-[0-9a-f-]{27})\b")
_FIRE: Final = re.compile(r"\bthe fire of (\d{4}-\S+?Z)\b")


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is known of a job at all."""

    name: str
    spec: JobSpec | None
    """None where its file is broken, or gone."""
    broken: str
    """Why its file cannot be loaded; empty where it can, or is gone."""
    schedules: tuple[ScheduleInForce, ...]
    """Every schedule that the record has of it, the first one first."""
    latest: Fire | None
    """Its latest fire up to now that has a row."""
    paused: Pause | None
    """The pause in force now."""

    @property
    def zone(self) -> str:
        """The zone whose wall clock its schedule follows."""
        schedule = self.spec.schedule if self.spec is not None else None
        if schedule is None and self.schedules:
            schedule = readable(self.schedules[-1])
        return "UTC" if schedule is None else schedule.zone

    def schedule_at(self, moment: datetime) -> ScheduleInForce | None:
        """The one that a moment's fire belonged to: a fire at the very end of a schedule is the old one's."""
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
        """The first fire after a moment, by the schedules that were in force; later than now, by that of the job's file."""
        for one in self._all(moment):
            schedule, start = readable(one), max(moment, one.since)
            fire = None if schedule is None or (one.until and one.until <= moment) else schedule.next_after(start)
            if fire is not None and (one.until is None or fire <= one.until):
                return fire
        return None

    def _all(self, moment: datetime) -> Sequence[ScheduleInForce]:
        """With nothing in the record, as if the file had always been as it is."""
        if self.schedules or self.spec is None or self.spec.schedule is None:
            return self.schedules
        return (ScheduleInForce(self.name, self.spec.schedule.describe(), moment - _FAR),)


@dataclass(frozen=True, slots=True)
class MomentRecord:
    """What is known of one moment of a job."""

    fire: Fire | None = None
    gap: Gap | None = None
    """The gap of which the moment is one fire."""
    run: Run | None = None
    """The run that the fire started."""
    other: Run | None = None
    """The run that stood in its way."""
    successor: Fire | None = None
    """The fire that catches up for it, or took its place."""
    pause: Pause | None = None
    """The pause that was in force at the moment."""
    clock: tuple[ClockEvent, ...] = ()
    awake: bool = False
    """A scheduler is awake now."""
    last_tick: datetime | None = None
    """When one was awake last."""


def read_job(deployment: Deployment, connection: Transaction | None, job: str, now: datetime) -> JobRecord:
    """Everything about a job that the folder or the record knows. Raises UsageError or ConfigurationError where neither does."""
    known: list[ScheduleInForce] = []
    latest, paused = None, None
    if connection is not None:
        known = schedules.schedules_of(connection, job)
        latest = next(iter(fires.fires_page(connection, job=job, outcome=None, before=now + TICK, limit=1)), None)
        paused = schedules.pauses_in_force(connection).get(job)
    spec, broken = None, ""
    try:
        spec = deployment.catalog.jobs.get(job)
        if spec is None:
            broken = "; ".join(str(file) for file in deployment.catalog.broken if job in file.names)
    except ConfigurationError as error:
        broken = str(error)
    if spec is None and not known and latest is None and paused is None:
        spec = deployment.catalog.get(job)
    return JobRecord(job, spec, broken, tuple(known), latest, paused)


def read_moment(connection: Transaction, job: str, moment: datetime, now: datetime) -> MomentRecord:
    """What the record says of a fire: its row, or its place in a gap, and what belongs to it."""
    fire = fires.get_fire(connection, job, moment)
    gap = None if fire is not None else fires.gap_at(connection, job, moment)
    if gap is not None and not names(readable_text(gap.schedule), moment):
        gap = None
    outcome, reason = next(((one.outcome, one.reason) for one in (fire, gap) if one is not None), (None, ""))
    # What a person noted with a pause, or a file's error, is nobody's fire or run.
    reason = reason if outcome in _OURS else ""
    other, successor = _RUN.search(reason), _fire_in(reason)
    return MomentRecord(
        fire=fire,
        gap=gap,
        run=runs.get_run(connection, fire.run_id) if fire is not None and fire.run_id else None,
        other=runs.get_run(connection, other[1]) if other else None,
        successor=fires.get_fire(connection, job, successor) if successor else None,
        pause=schedules.pause_at(connection, job, moment),
        clock=tuple(schedulers.clock_events_at(connection, moment)),
        awake=bool(schedulers.awake_schedulers(connection, now)),
        last_tick=schedulers.last_tick(connection),
    )


def _fire_in(reason: str) -> datetime | None:
    """The other fire that a reason names."""
    found = _FIRE.search(reason)
    return None if found is None else datetime.fromisoformat(found[1])


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
