"""The work of the scheduler at each wake-up."""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from taskpilot.config import reread
from taskpilot.config.reread import changed, following, needing_restart, signature
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError, StoreBusy, StoreError, TaskPilotError
from taskpilot.domain.fires import PUNCTUAL, ClockEvent, ClockEventKind, SchedulerState, StartOrder
from taskpilot.domain.reasons import Reason
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.text import one_line
from taskpilot.domain.times import BootTime
from taskpilot.domain.version import version
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.ledger.claims import Definitions
from taskpilot.messages.reasons import reason_sentence
from taskpilot.messages.times import clock_event
from taskpilot.scheduler.job_files import JobFiles
from taskpilot.schedules.schedule import schedule_of
from taskpilot.services.jobs import follow_definitions
from taskpilot.services.preflight import check_jobs
from taskpilot.store import schedulers
from taskpilot.store.future import follow_clock_back
from taskpilot.store.probe import Presence, check_room
from taskpilot.store.schedules import schedules_in_force

REGULAR_EVERY: Final = timedelta(seconds=5)
"""The regular work: write the scheduler's row, end the runs whose process has ended, check for changed job files."""
POLL_EVERY: Final = timedelta(seconds=1)
"""Other processes put runs into the queue too, and the wall clock may be set: this is the longest sleep."""


class Engine(Protocol):
    """Starts supervisors."""

    def submit(self, order: StartOrder) -> None:
        """Hands over an order. Raises an Exception where that fails; the order goes back into the queue then."""
        ...


class Log(Protocol):
    """The log of the server."""

    def info(self, message: object, /, **fields: object) -> None:
        """Logs what happened."""
        ...

    def warning(self, message: object, /, **fields: object) -> None:
        """Logs what a person should check."""
        ...


class Clock(Protocol):
    """Decides when `tick` is called. Its functions are called in another thread, before the wake-up that they are for."""

    def set_schedules(self, schedules: Collection[Schedule], due: Callable[[Schedule, datetime], None]) -> None:
        """Calls `due` from now on with each of exactly these schedules at each of its fires, and with the time of the fire."""
        ...

    def call_every(self, period: timedelta, function: Callable[[], None], *, name: str) -> None:
        """Calls a function regularly."""
        ...

    def call_at(self, moment: datetime, function: Callable[[], None], *, name: str) -> None:
        """Calls a function once; replaces the former moment of that name."""
        ...


@dataclass(slots=True)
class _Status:
    """What the scheduler last wrote into its row."""

    jobs: int = 0
    broken: tuple[str, ...] = ()
    settings_error: str | None = None
    restart: tuple[str, ...] = ()
    error: str | None = None
    failed_at: datetime | None = None
    lag: timedelta = timedelta(0)

    @property
    def failing(self) -> tuple[datetime, str] | None:
        """Since when its ticks fail, and the error."""
        return None if self.failed_at is None else (self.failed_at, self.error or "")


class Scheduler:
    """Claims what is due, starts what is in the queue, ends the runs whose process has ended, and writes that it is awake.

    One thread calls `tick` at each wake-up. An error in it is recorded, and everything is tried again at the next tick: nothing is lost,
    since what is due is derived from the cursors in the store.
    """

    def __init__(
        self,
        deployment: Deployment,
        engine: Engine,
        clock: Clock,
        *,
        scheduler_id: str,
        log: Log,
        job_files: JobFiles | None = None,
        on_settings: Callable[[], None] = lambda: None,
        tell: Callable[[str], None] = lambda _line: None,
        report: Callable[[Collection[str], datetime], None] | None = None,
    ) -> None:
        self._deployment = deployment
        self._presence = Presence(deployment.store)
        self._engine = engine
        self._clock = clock
        self._id = scheduler_id
        self._log = log
        self._job_files = job_files or JobFiles(deployment)
        self._used: JobCatalog | ConfigurationError | None = None
        """What `_jobs` was made from."""
        self._jobs: Definitions | None = None
        """None until the job files were read for the first time: nothing is claimed and nothing started before."""
        self._tell = tell
        """Prints a line that a person should see."""
        self._report = report
        """Prints what happened since the last tick, with the jobs of which fires were decided in this one."""
        self._decided: frozenset[str] = frozenset()
        self._blocked: dict[str, Reason] = {}
        """The jobs that could not start, and why."""
        self._on_settings = on_settings
        """Called after the settings in force changed."""
        self._started_with = deployment.settings
        self._settings_read = signature(deployment.settings)
        self._jobs_of: dict[Schedule, set[str]] = {}
        self._reload = False
        self._status = _Status()
        self._due: deque[tuple[Schedule, datetime]] = deque()
        """The schedules that became due since the last tick, each with the time of its fire."""
        self._all_due = True
        """The next claim asks for all jobs: at the start, after a reload, a sleep or a failure."""
        self._regular_due = True
        self._last_tick: tuple[datetime, BootTime] | None = None
        """When the last tick began, failed or not: by the wall clock, and by the boot clock."""
        self._gap: ClockEventKind | None = ClockEventKind.ASLEEP
        """What may have happened to the time before this tick, until the store was asked about it; at the start, no scheduler ran."""
        self._asleep_since: datetime | None = None
        """Since when no scheduler was awake, until a claim has judged by it."""
        self._row_written = False
        self.state = SchedulerState.STARTING
        clock.call_every(POLL_EVERY, lambda: None, name="check the queue and the clock")
        clock.call_every(REGULAR_EVERY, self._request_regular_work, name="regular work")

    def reload(self) -> None:
        """Reads the settings and the job files again at the next tick, changed or not."""
        # A plain flag: a signal handler sets it.
        self._reload = True

    def tick(self) -> None:
        """The work of one wake-up. Never raises an Exception: an error is in the scheduler's row, the log and `error`."""
        try:
            self._tick()
        except Exception as error:
            self._fail(error)
        else:
            if self._status.error is not None:
                self._log.info(f"the scheduler works again after: {self._status.error}")
            self._status.error, self._status.failed_at = None, None

    @property
    def error(self) -> str | None:
        """What the last tick failed with."""
        return self._status.error

    def record_state(self, state: SchedulerState) -> None:
        """Writes the scheduler's row with a new state. Raises StoreError or StoreBusy."""
        self.state = state
        self._write_row(self._status.error)

    def _write_row(self, error: str | None) -> None:
        status = self._status
        now, boot = self._deployment.now(), self._deployment.boot()
        values: dict[str, Any] = {
            "state": self.state,
            "lag": status.lag,
            "jobs": status.jobs,
            "broken": (*([status.settings_error] if status.settings_error else ()), *status.broken),
            "error": error,
            "restart": status.restart,
        }
        with self._deployment.store.write() as connection:
            if not schedulers.tick(connection, self._id, now=now, boot=boot, **values):
                # A backup was restored under this server.
                self._log.warning("the database was restored: scheduled times since the backup are judged anew")
                self._gap, self._all_due = ClockEventKind.ASLEEP, True
                schedulers.begin_scheduler(connection, self._id, owner=self._deployment.owner, version=version(), now=now, boot=boot)
                schedulers.tick(connection, self._id, now=now, boot=boot, **values)
        self._row_written = True

    def _tick(self) -> None:
        now = self._deployment.now()
        self._presence.check()
        if self._regular_due:
            check_room(self._deployment.settings.state_dir)
        self._check_clock(now)
        regular = self._regular_due or self._asleep_since is not None
        self._regular_due = False
        if self._reload or regular:
            self._follow_settings()
        if regular or self._reload:
            again, self._reload = self._reload, False
            self._job_files.request(again=again)
        if (found := self._job_files.newest) is not None and found is not self._used:
            self._use_jobs(found)
            self._used = found
        claimed = False
        if self._jobs is not None:
            if (later := self._deployment.now()) - now >= PUNCTUAL:
                # The process stood still in the middle of this tick.
                self._check_clock(later)
            if self._deployment.ledger.expire():
                self._log.info("questions to a person have expired, or are about to")
            due = self._take_due()
            claimed = self.state in (SchedulerState.STARTING, SchedulerState.RUNNING) and self._claim(self._jobs, due, now)
            if regular:
                self._reap(self._jobs)
            if self.state is SchedulerState.RUNNING:
                self._dispatch(self._jobs)
        if self._report is not None:
            self._report(self._decided, now)
            self._decided = frozenset()
        if regular:
            # A tick that came this far has not failed.
            self._write_row(None)
            if not claimed:
                self._deployment.store.checkpoint()

    def _request_regular_work(self) -> None:
        self._regular_due = True

    def _note_due(self, schedule: Schedule, time: datetime) -> None:
        self._due.append((schedule, time))

    def _take_due(self) -> dict[Schedule, datetime]:
        due: dict[Schedule, datetime] = {}
        while self._due:
            schedule, time = self._due.popleft()
            due.setdefault(schedule, time)
        return due

    def _check_clock(self, now: datetime) -> None:
        """Records that no scheduler was awake for longer than two wake-ups, and that the clock was set."""
        before, self._last_tick = self._last_tick, (now, self._deployment.boot())
        if before is not None:
            stepped = (now - before[0]) - timedelta(microseconds=self._last_tick[1].micros - before[1].micros)
            if now - before[0] >= PUNCTUAL:
                self._gap = ClockEventKind.FORWARD if stepped >= PUNCTUAL else ClockEventKind.ASLEEP
            if stepped <= -PUNCTUAL:
                self._follow_clock_back(now - stepped, now)
        if self._gap is None:
            return
        with self._deployment.store.read() as connection:
            # What this scheduler wrote at its start, before its first tick, does not count for the time before.
            last = schedulers.last_tick(connection, but=None if self._row_written else self._id)
        if last is not None and last - now >= PUNCTUAL:
            # The clock was ahead when the last server ran.
            self._follow_clock_back(last, now)
        elif last is not None and now - last >= PUNCTUAL:
            self._record_clock_event(self._gap, last, now)
            self._all_due, self._asleep_since = True, last
        self._gap = None

    def _record_clock_event(self, kind: ClockEventKind, start: datetime, end: datetime) -> None:
        event = ClockEvent(kind, start, end)
        self._log.warning(clock_event(event))
        with self._deployment.store.write() as connection:
            schedulers.insert_clock_event(connection, event)

    def _follow_clock_back(self, before: datetime, now: datetime) -> None:
        """The clock showed `before` where it shows `now`."""
        self._record_clock_event(ClockEventKind.BACKWARD, before, now)
        with self._deployment.store.write() as connection:
            follow_clock_back(connection, by=before - now, now=now)
        self._all_due = self._regular_due = True

    def _follow_settings(self) -> None:
        """Reads the settings again where a file of theirs changed, where they could not be read, or where a person asks for it."""
        deployment, status = self._deployment, self._status
        files = signature(deployment.settings)
        if files == self._settings_read and status.settings_error is None and not self._reload:
            return
        try:
            found = reread(deployment.settings)
        except ConfigurationError as error:
            if error.one_line != status.settings_error:
                self._log.warning(f"the settings cannot be read, the server keeps the former ones: {error.one_line}")
            status.settings_error = error.one_line
            return
        if status.settings_error is not None:
            self._log.info("the settings can be read again")
        status.settings_error = None
        restart = needing_restart(self._started_with, found)
        if restart and restart != status.restart:
            self._log.warning(f"changed settings that need a restart of the server: {', '.join(restart)}")
        status.restart = restart
        followed = following(self._started_with, found)
        if names := changed(deployment.settings, followed):
            self._log.info(f"the settings changed: {', '.join(names)}")
        elif files != self._settings_read:
            self._log.info("files that the settings name changed; each attempt reads them at its start")
        deployment.follow_settings(followed)
        self._settings_read = signature(followed)
        self._on_settings()
        # Jobs may start now, or may not, and some are defined by settings.
        self._reload, self._used = True, None

    def _use_jobs(self, found: JobCatalog | ConfigurationError) -> None:
        if isinstance(found, JobCatalog):
            found = self._deployment.use_catalog(found)
        self._jobs = jobs = follow_definitions(self._deployment, found)
        broken = jobs.complaints
        with self._deployment.store.read() as connection:
            in_force = schedules_in_force(connection)
        schedules = {job: spec.schedule for job, spec in jobs.specs.items() if spec.schedule is not None} | {
            job: schedule_of(in_force[job].schedule) for job in jobs.broken if job in in_force
        }
        self._jobs_of = {}
        for job, schedule in schedules.items():
            self._jobs_of.setdefault(schedule, set()).add(job)
        # Before the claim that asks for all: what becomes due between the two is in that claim or in a wake-up.
        self._clock.set_schedules(self._jobs_of.keys(), self._note_due)
        if (len(jobs.specs), broken) != (self._status.jobs, self._status.broken):
            self._log.info(f"{len(jobs.specs)} jobs are defined", broken=len(broken))
        for line in set(broken) - set(self._status.broken):
            self._log.warning(f"broken job file: {line}")
        self._status.jobs, self._status.broken = len(jobs.specs), broken
        self._all_due = True
        self._check_jobs(jobs)

    def _check_jobs(self, jobs: Definitions) -> None:
        """Finds the jobs that could not start, before their fires fail; each that is new is told."""
        found = {check.job: check.reason for check in check_jobs(self._deployment, jobs) if check.reason}
        for job, reason in found.items():
            if self._blocked.get(job) != reason:
                line = f"{job} cannot start: {one_line(reason_sentence(reason, now=True), limit=1000)}"
                self._log.warning(line, job=job)
                self._tell(line)
        for job in self._blocked.keys() - found.keys():
            self._log.info(f"{job} can start again", job=job)
        self._blocked = found

    def _claim(self, jobs: Definitions, due: Mapping[Schedule, datetime], now: datetime) -> bool:
        """Whether anything was due."""
        if due:
            self._status.lag = max(timedelta(0), now - min(due.values()))
        only = None if self._all_due else frozenset[str]().union(*(self._jobs_of.get(schedule, ()) for schedule in due))
        if only is not None and not only:
            return False
        claimed = self._deployment.fires.claim_due(jobs, only=only, asleep_since=self._asleep_since, failing=self._status.failing)
        self._all_due, self._asleep_since = False, None
        self._decided = claimed.jobs
        if claimed.outcomes:
            counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(claimed.outcomes.items()) if number)
            self._log.info(f"claimed what was due: {counts}", **{str(outcome): number for outcome, number in claimed.outcomes.items()})
        return bool(claimed.outcomes)

    def _reap(self, jobs: Definitions) -> None:
        lost = self._deployment.ledger.reap()
        adopted = self._deployment.queue.adopt(jobs) if self.state is SchedulerState.RUNNING else []
        for run in lost:
            again = " and is continued from its journal" if run.id in adopted else ""
            self._log.warning(f"run {run.id} of {run.job} was lost{again}", run_id=run.id)

    def _dispatch(self, jobs: Definitions) -> None:
        orders = self._deployment.queue.take(jobs, scheduler=self._id)
        while orders:
            try:
                self._engine.submit(orders[0])
            except Exception:
                for order in orders:
                    self._deployment.queue.requeue(order)
                raise
            del orders[0]
        if (start := self._deployment.queue.next_start()) is not None:
            self._clock.call_at(start, lambda: None, name="next start in the queue")

    def _fail(self, error: Exception) -> None:
        message = error.one_line if isinstance(error, TaskPilotError) else f"{type(error).__name__}: {error}"
        if message != self._status.error:
            self._log.warning(f"the scheduler could not do its work and tries again: {message}")
        self._status.error, self._status.failed_at = message, self._status.failed_at or self._deployment.now()
        # The next tick, a second later at most, tries everything again.
        self._all_due = self._regular_due = True
        if not isinstance(error, StoreError | StoreBusy):
            # The store can be written: the row holds the error.
            with suppress(StoreError, StoreBusy):
                self._write_row(message)
