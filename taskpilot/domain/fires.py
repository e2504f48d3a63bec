"""Fires and their outcomes, gaps of many fires, pauses, and when a scheduler was awake."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Owner
from taskpilot.domain.times import utc_iso

WAKE_UP: Final = timedelta(seconds=15)
"""A scheduler reads the clock at least this often, since clocks are set and machines suspended."""
PUNCTUAL: Final = 2 * WAKE_UP
"""A fire that is older than two wake-ups was not claimed in time: the rules of catching up apply to it."""
AWAKE: Final = timedelta(seconds=45)
"""A scheduler whose last tick is older than three wake-ups counts as dead."""
LAUNCH: Final = timedelta(seconds=30)
"""A fire that was taken out of the queue and did not start within this time is in the queue again."""


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire and its outcome."""

    job: str
    scheduled_for: datetime
    outcome: FireOutcome
    run_id: str | None
    reason: Reason
    recorded_at: datetime
    start_after: datetime | None = None
    key: str = ""
    """Identifies an event's fire among those of its job: delivery id, path and digest, parent run. Empty: the scheduled time is the key."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Many fires with one outcome: those of a schedule from `first` to `last`, both included, that have no row of their own."""

    job: str
    first: datetime
    last: datetime
    count: int
    outcome: FireOutcome
    reason: Reason
    schedule: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which a job does not start, and who asked for it; `resumed_at` is None where it is in force."""

    job: str
    paused_at: datetime
    paused_by: str
    note: str
    resumed_at: datetime | None = None
    resumed_by: str | None = None
    resume_note: str = ""

    def reason(self, code: ReasonCode = ReasonCode.PAUSED, **facts: Fact) -> Reason:
        """Why a fire in this pause, or before it, did not start."""
        return Reason(code, {"since": utc_iso(self.paused_at, timespec="seconds"), "by": self.paused_by, "note": self.note, **facts})


@dataclass(frozen=True, slots=True)
class ScheduleInForce:
    """The schedule that a job has or had, by its description."""

    job: str
    schedule: str
    since: datetime
    until: datetime | None = None
    """None: it is in force."""
    cursor: datetime | None = None
    """Every fire at or before has its outcome; None for one of the past."""


class SchedulerState(StrEnum):
    """The state of a `taskpilot serve`."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    STOPPED = "stopped"


class SchedulerStatus(StrEnum):
    """The state of the scheduler of a deployment, as it is shown."""

    ABSENT = "absent"
    """No scheduler ever ran, or the last one was stopped: cron or people start the runs."""
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    DEAD = "dead"
    """It was not stopped, but it is not active any more."""
    UNKNOWN = "unknown"
    """The store cannot be read."""

    @property
    def awake(self) -> bool:
        """Whether it starts runs."""
        return self in (SchedulerStatus.STARTING, SchedulerStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class SchedulerRow:
    """One start of `taskpilot serve`, as it last recorded itself."""

    id: str
    owner: Owner
    version: str
    state: SchedulerState
    started_at: datetime
    last_tick_at: datetime
    lag: timedelta
    """How late its last wake-up was."""
    jobs: int
    broken: tuple[str, ...]
    """The job files that it could not load, a line each."""
    error: str | None
    """The error of its last pass."""
    stopped_at: datetime | None
    restart: tuple[str, ...] = ()
    """The changed settings that it follows after a restart only."""


class ClockEventKind(StrEnum):
    """Why some time is missing, or came twice."""

    ASLEEP = "asleep"
    FORWARD = "forward"
    BACKWARD = "backward"
    CURSOR = "cursor"
    """A clock that was ahead had recorded fires up to `start`; they are due again from `end` on."""


@dataclass(frozen=True, slots=True)
class ClockEvent:
    """From when to when no scheduler was awake, or what the clock was set from and to."""

    kind: ClockEventKind
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class StartOrder:
    """What an engine is to start: the run of a buffered fire, or a queued run."""

    job: str
    scheduled_for: datetime | None = None
    run_id: str | None = None
