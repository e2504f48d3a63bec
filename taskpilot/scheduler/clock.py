"""APScheduler as the clock: it knows when each job is due next, and wakes the thread that asks the ledger."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from taskpilot.domain.schedule import Schedule


class Clock:
    """Calls `wake` when a schedule is due, with its description. Its job store is memory, filled anew from the definitions.

    It has one entry for each schedule, not for each job: a thousand jobs of one schedule are due at once, and whoever is woken asks the
    ledger for all of them.
    """

    def __init__(self, wake: Callable[[str], None]) -> None:
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            jobstores={"default": MemoryJobStore()},
            executors={"default": _WakingExecutor(wake)},
            # A late job is never dropped here: whether it is late is for the ledger to judge.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        self._entries: set[str] = set()

    def start(self) -> None:
        """Begins to keep time, in a thread of APScheduler's."""
        self._scheduler.start()

    def set_schedules(self, schedules: Mapping[str, Schedule]) -> None:
        """From here on exactly these jobs are due, each by its schedule."""
        wanted = {schedule.describe(): schedule for schedule in schedules.values()}
        for entry in self._entries - wanted.keys():
            # One that has no further fire has left the job store by itself.
            with suppress(JobLookupError):
                self._scheduler.remove_job(entry)
        for entry in wanted.keys() - self._entries:
            self._scheduler.add_job(_nothing, _ScheduleTrigger(wanted[entry]), id=entry, name=entry)
        self._entries = set(wanted)

    def look_again(self) -> None:
        """Makes APScheduler look at the wall clock now: it sleeps by another clock, and the wall clock may have been set."""
        if self._scheduler.running:
            self._scheduler.wakeup()

    def stop(self) -> None:
        """Wakes nobody any more."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)


class _ScheduleTrigger(BaseTrigger):  # type: ignore[misc]  # apscheduler has no types
    """Our schedules in APScheduler's form."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The next one after now: those before it are in the ledger's hands, and a month of seconds is not gone through here."""
        return self._schedule.next_after(now if previous_fire_time is None else max(previous_fire_time, now))


class _WakingExecutor(BaseExecutor):  # type: ignore[misc]  # as above
    """Runs nothing: it says that something is due. The times that it is offered are a hint, since not all are offered."""

    def __init__(self, wake: Callable[[str], None]) -> None:
        super().__init__()
        self._wake = wake

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        del run_times
        self._wake(job.id)
        # Done at once. The base class counts it as begun only after this, so the sum is nothing.
        self._run_job_success(job.id, [])


def _nothing() -> None:
    """APScheduler wants a function."""


class WakeEvent:
    """Wakes its sleeper at the next ring, or at once where it rang since the last sleep.

    Not a threading.Event: a signal handler that sets one while the thread that it interrupts is inside of that event waits for itself,
    for ever. SimpleQueue is made to be called again in the middle of its own call.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Ends the sleep."""
        self._rings.put(None)

    def wait(self, seconds: float) -> None:
        """Sleeps until somebody rings, at most so long. However often it rang, it is one ring."""
        with suppress(Empty):
            self._rings.get(timeout=max(0.0, seconds))
            while True:
                self._rings.get_nowait()
