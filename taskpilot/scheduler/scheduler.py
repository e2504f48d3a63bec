"""What a scheduler does each time that it wakes up, with the time handed in."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import StoreBusy, StoreError, TaskPilotError
from taskpilot.domain.fires import PUNCTUAL, WAKE_UP, ClockEvent, ClockEventKind, SchedulerState, StartOrder
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.times import utc_iso
from taskpilot.ledger.claims import Claimed, Definitions
from taskpilot.scheduler.alarms import Alarms
from taskpilot.schedules.schedule import schedule_of
from taskpilot.services.jobs import follow_definitions
from taskpilot.store import schedulers
from taskpilot.store.probe import Presence
from taskpilot.store.schedules import schedules_in_force


class FolderWatch:
    """Remembers how a folder looked when it was read last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: frozenset[tuple[str, int, int, int]] | None = None

    def changed(self) -> bool:
        """Whether it looks different from the last time that this was asked; True the first time."""
        looks = self._look()
        before, self._seen = self._seen, looks
        return looks != before

    def _look(self) -> frozenset[tuple[str, int, int, int]]:
        try:
            with os.scandir(self._folder) as entries:
                return frozenset(
                    (entry.name, info.st_mtime_ns, info.st_size, info.st_ino)
                    for entry in entries
                    if entry.name.endswith(".py") and (info := _stat(entry)) is not None
                )
        except OSError:
            return frozenset({("", 0, 0, 0)})


def _stat(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:
        return None


TICK_EVERY: Final = timedelta(seconds=5)
"""So often a scheduler says in the record that it is awake, reaps dead runs and looks at the job files."""
QUEUE_EVERY: Final = timedelta(seconds=1)
"""So often it looks whether somebody else put something into the queue."""


class Engine(Protocol):
    """Starts supervisors."""

    def submit(self, order: StartOrder) -> None:
        """Hands over an order. Raises an exception where it cannot; the order is put back then."""
        ...


class Log(Protocol):
    """Says what happened."""

    def info(self, message: object, /, **fields: object) -> None:
        """What happened."""
        ...

    def warning(self, message: object, /, **fields: object) -> None:
        """What somebody should look at."""
        ...


@dataclass(slots=True)
class Told:
    """What a scheduler last said of itself."""

    jobs: int = 0
    broken: tuple[str, ...] = ()
    error: str | None = None
    failed_at: datetime | None = None
    lag: timedelta = timedelta(0)

    @property
    def excuse(self) -> str | None:
        """Why what is due was not met, where that is because its turns fail."""
        if self.failed_at is None:
            return None
        since = utc_iso(self.failed_at, timespec="seconds")
        return f"the scheduler was awake but could not do its work since {since}: {self.error}"


class Scheduler:
    """Claims what is due, starts what is in the queue, ends what is dead, and says that it is awake.

    One thread calls `turn`. What fails in it is told and tried again at the next turn: nothing is lost by it, since what is due is
    derived from the cursors in the record.
    """

    def __init__(
        self,
        deployment: Deployment,
        engine: Engine,
        *,
        scheduler_id: str,
        log: Log,
        set_alarms: Callable[[Mapping[str, Schedule]], None] = lambda _schedules: None,
        changed: Callable[[frozenset[str]], None] = lambda _jobs: None,
        boottime: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deployment = deployment
        self._presence = Presence(deployment.store)
        self._engine = engine
        self._id = scheduler_id
        self._log = log
        self._set_alarms = set_alarms
        self._changed = changed
        """Told of the jobs whose counters changed, for their gateway groups."""
        self._boottime = boottime
        self._watch = FolderWatch(deployment.settings.jobs_dir)
        self._alarms = Alarms()
        self._jobs = Definitions({})
        self._reload = False
        self._told = Told()
        self._everything = True
        """The next claim looks at all jobs: at the start, after a reload, a sleep or a failure."""
        self._next_tick: datetime | None = None
        self._last_turn: tuple[datetime, float] | None = None
        """When the last turn began, failed or not: by the wall clock, and by one that nobody sets."""
        self._gap: ClockEventKind | None = ClockEventKind.ASLEEP
        """What may have happened to the time before this turn, until the record was asked about it; at the start, nobody was awake."""
        self._asleep_since: datetime | None = None
        """Since when no scheduler was awake, until a claim has judged by it."""
        self._ticked = False
        self.state = SchedulerState.STARTING

    def reload(self) -> None:
        """Reads the job files again at the next turn, changed or not."""
        # A plain flag: a signal handler sets it.
        self._reload = True

    def turn(self) -> None:
        """One wake-up. Never raises an Exception: an error is told in the record, the log and by `error`."""
        try:
            self._turn()
        except Exception as error:
            self._fail(error)
        else:
            if self._told.error is not None:
                self._log.info(f"the scheduler works again after: {self._told.error}")
            self._told.error, self._told.failed_at = None, None

    @property
    def error(self) -> str | None:
        """What the last turn failed with."""
        return self._told.error

    def seconds_to_sleep(self) -> float:
        """Until the next alarm or duty, at most a wake-up."""
        now = self._deployment.now()
        due = [now + WAKE_UP, now + QUEUE_EVERY]
        if self._next_tick is not None:
            due.append(self._next_tick)
        if (alarm := self._alarms.next) is not None:
            due.append(alarm)
        return max(0.0, (min(due) - now).total_seconds())

    def tell(self, state: SchedulerState) -> None:
        """Writes how it stands. Raises StoreError or StoreBusy."""
        self.state = state
        self._write(self._told.error)

    def _write(self, error: str | None) -> None:
        told = self._told
        with self._deployment.store.write() as connection:
            schedulers.tick(
                connection,
                self._id,
                now=self._deployment.now(),
                state=self.state,
                lag=told.lag,
                jobs=told.jobs,
                broken=told.broken,
                error=error,
            )
        self._ticked = True

    def _turn(self) -> None:
        now = self._deployment.now()
        self._presence.check()
        self._look_at_clock(now)
        duties = self._next_tick is None or now >= self._next_tick or self._asleep_since is not None
        if self._reload or (duties and self._watch.changed()):
            self._read_jobs()
        claimed = self.state in (SchedulerState.STARTING, SchedulerState.RUNNING) and self._claim(now)
        if duties:
            self._reap()
        if self.state is SchedulerState.RUNNING:
            self._dispatch()
        if duties:
            # A pass that came this far has failed with nothing.
            self._write(None)
            self._next_tick = now + TICK_EVERY
            if not claimed:
                self._deployment.store.checkpoint()

    def _look_at_clock(self, now: datetime) -> None:
        """Finds out whether no scheduler was awake for longer than two wake-ups; notes that, and a clock that was set."""
        if self._next_tick is not None and now < self._next_tick - 2 * TICK_EVERY:
            # The clock was set back: the next duty would be an hour away.
            self._next_tick = now
        before, self._last_turn = self._last_turn, (now, self._boottime())
        if before is not None:
            stepped = (now - before[0]) - timedelta(seconds=self._last_turn[1] - before[1])
            if now - before[0] >= PUNCTUAL:
                self._gap = ClockEventKind.FORWARD if stepped >= PUNCTUAL else ClockEventKind.ASLEEP
            if stepped <= -PUNCTUAL:
                self._note(ClockEventKind.BACKWARD, before[0], now)
        if self._gap is None:
            return
        with self._deployment.store.read() as connection:
            # What it wrote at its start, before its first pass, says nothing of the time before.
            last = schedulers.last_tick(connection, but=None if self._ticked else self._id)
        if last is not None and now - last >= PUNCTUAL:
            self._note(self._gap, last, now)
            self._everything, self._asleep_since = True, last
        self._gap = None

    def _note(self, kind: ClockEventKind, start: datetime, end: datetime) -> None:
        words = {
            ClockEventKind.ASLEEP: "no scheduler was awake",
            ClockEventKind.FORWARD: "the clock was set forward",
            ClockEventKind.BACKWARD: "the clock was set back",
        }
        self._log.warning(f"{words[kind]}: from {start.isoformat()} to {end.isoformat()}")
        with self._deployment.store.write() as connection:
            schedulers.insert_clock_event(connection, ClockEvent(kind, start, end))

    def _read_jobs(self) -> None:
        self._reload = False
        self._jobs = follow_definitions(self._deployment, again=True)
        broken = self._jobs.complaints
        with self._deployment.store.read() as connection:
            force = schedules_in_force(connection)
        schedules = {job: spec.schedule for job, spec in self._jobs.specs.items() if spec.schedule is not None} | {
            job: schedule_of(force[job].schedule) for job in self._jobs.broken if job in force
        }
        self._alarms.set(schedules, after={job: one.cursor for job, one in force.items() if one.cursor is not None})
        self._set_alarms(schedules)
        if (len(self._jobs.specs), broken) != (self._told.jobs, self._told.broken):
            self._log.info(f"{len(self._jobs.specs)} jobs are defined", broken=len(broken))
        for line in set(broken) - set(self._told.broken):
            self._log.warning(f"broken job file: {line}")
        self._told.jobs, self._told.broken = len(self._jobs.specs), broken
        self._everything = True

    def _claim(self, now: datetime) -> bool:
        """Whether anything was due."""
        ringing = self._alarms.ring(now)
        if not ringing and not self._everything:
            return False
        self._told.lag = max((now - due for due in ringing.values()), default=timedelta(0))
        only = None if self._everything else frozenset(ringing)
        claimed = self._deployment.fires.claim_due(self._jobs, only=only, asleep_since=self._asleep_since, excuse=self._told.excuse)
        self._everything, self._asleep_since = False, None
        self._tell_of(claimed)
        return bool(claimed.outcomes)

    def _tell_of(self, claimed: Claimed) -> None:
        if claimed.outcomes:
            words = ", ".join(f"{number} {outcome}" for outcome, number in sorted(claimed.outcomes.items()) if number)
            self._log.info(f"claimed what was due: {words}", **{str(outcome): number for outcome, number in claimed.outcomes.items()})
        if claimed.jobs:
            self._changed(claimed.jobs)

    def _reap(self) -> None:
        lost = self._deployment.ledger.reap()
        adopted = self._deployment.queue.adopt(self._jobs) if self.state is SchedulerState.RUNNING else []
        for run in lost:
            again = " and is continued from its journal" if run.id in adopted else ""
            self._log.warning(f"run {run.id} of {run.job} was lost{again}", run_id=run.id)
        if lost:
            self._changed(frozenset(run.job for run in lost))

    def _dispatch(self) -> None:
        orders = self._deployment.queue.take(self._jobs, scheduler=self._id)
        while orders:
            try:
                self._engine.submit(orders[0])
            except Exception:
                for order in orders:
                    self._deployment.queue.requeue(order)
                raise
            del orders[0]

    def _fail(self, error: Exception) -> None:
        words = str(error) if isinstance(error, TaskPilotError) else f"{type(error).__name__}: {error}"
        if words != self._told.error:
            self._log.warning(f"the scheduler could not do its work and tries again: {words}")
        self._told.error, self._told.failed_at = words, self._told.failed_at or self._deployment.now()
        self._everything = True
        if not isinstance(error, StoreError | StoreBusy):
            # It is awake, and somebody should see what it cannot do.
            with suppress(StoreError, StoreBusy):
                self._write(words)
        # At the next turn, a second later, all duties are tried again.
        self._next_tick = None
