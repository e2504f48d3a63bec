"""APScheduler decides when the scheduler wakes up: for fires, for the next start in the queue, and for regular work."""

from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from apscheduler.events import EVENT_JOB_SUBMITTED
from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger

from taskpilot.domain.schedule import Schedule
from taskpilot.domain.times import utc_now
from taskpilot.schedules.schedule import every


class Clock:
    """Calls functions at their times, in APScheduler's thread, and then `wake`: once all that is due at this moment were called.

    The functions note what is due and return at once; the thread that is woken asks the ledger. Nothing is stored: the entries are made
    from the job files at each start.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._functions: dict[str, Callable[[datetime], None]] = {}
        self._schedules: set[str] = set()
        self._moments: dict[str, datetime] = {}
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            jobstores={"default": _JobStore()},
            executors={"default": _InlineExecutor(self._functions)},
            # APScheduler drops no late job: the ledger judges what is late.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        # APScheduler sends this event when it has gone through everything that is due: a thousand schedules are one wake-up.
        self._scheduler.add_listener(lambda _event: wake(), EVENT_JOB_SUBMITTED)

    def start(self) -> None:
        """Starts APScheduler's thread."""
        self._scheduler.start()

    def stop(self) -> None:
        """Ends APScheduler's thread."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def set_schedules(self, schedules: Collection[Schedule], due: Callable[[Schedule, datetime], None]) -> None:
        """Calls `due` from now on with each of exactly these schedules at each of its fires, and with the time of the fire.

        One entry serves all the jobs of a schedule. The time is a hint: APScheduler does not offer every fire after a sleep.
        """
        wanted = {schedule.describe(): schedule for schedule in schedules}
        for name in self._schedules - wanted.keys():
            # A schedule without a further fire has left APScheduler's store by itself.
            with suppress(JobLookupError):
                self._scheduler.remove_job(name)
            del self._functions[name]
        for name in wanted.keys() - self._schedules:
            self._add(name, _ScheduleTrigger(wanted[name]), partial(due, wanted[name]))
        self._schedules = set(wanted)

    def call_every(self, period: timedelta, function: Callable[[], None], *, name: str) -> None:
        """Calls a function regularly, counted from now."""
        self._add(name, _ScheduleTrigger(every(period, anchor=utc_now())), lambda _time: function())

    def call_at(self, moment: datetime, function: Callable[[], None], *, name: str) -> None:
        """Calls a function once; replaces the former moment of that name."""
        if self._moments.get(name) != moment:
            self._moments[name] = moment
            self._add(name, DateTrigger(moment), lambda _time: function())

    def _add(self, name: str, trigger: BaseTrigger, function: Callable[[datetime], None]) -> None:
        self._functions[name] = function
        self._scheduler.add_job(_nothing, trigger, id=name, name=name, replace_existing=True)


class _ScheduleTrigger(BaseTrigger):  # type: ignore[misc]  # apscheduler has no types
    """Our schedules in APScheduler's form."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first fire after now. Earlier ones are read from the ledger: APScheduler would go through a month of seconds one by one."""
        return self._schedule.next_after(now if previous_fire_time is None else max(previous_fire_time, now))


class _JobStore(MemoryJobStore):  # type: ignore[misc]  # as above
    """Plans every entry again when the wall clock was set back.

    APScheduler would sleep until the clock shows the old time again. It notices the step since it never sleeps longer than the shortest
    period of `call_every`, and it measures its sleep by the monotonic clock.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked_at: datetime | None = None

    def get_due_jobs(self, now: datetime) -> list[Any]:
        """As the base class."""
        before, self._asked_at = self._asked_at, now
        if before is not None and now < before:
            for entry in self.get_all_jobs():
                entry.reschedule(entry.trigger)
        due: list[Any] = super().get_due_jobs(now)
        return due


class _InlineExecutor(BaseExecutor):  # type: ignore[misc]  # as above
    """Calls the function of an entry in APScheduler's own thread."""

    def __init__(self, functions: dict[str, Callable[[datetime], None]]) -> None:
        super().__init__()
        self._functions = functions

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        # The entry may have been removed a moment ago.
        if (function := self._functions.get(job.id)) is not None:
            function(run_times[-1])
        # Reported at once, or APScheduler leaves out the next fire. It counts this one after the call: the sum is zero.
        self._run_job_success(job.id, [])


def _nothing() -> None:
    """APScheduler's entries need a function; `_InlineExecutor` calls another one, with the time as its argument."""


class WakeEvent:
    """Ends the sleep of one thread; where no thread waits now, that of the next `wait`.

    Not a threading.Event: a signal handler that calls `set` while its own thread is inside of the event's lock would
    deadlock. SimpleQueue may be called again in the middle of its own call.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Ends the sleep."""
        self._calls.put(None)

    def wait(self, seconds: float | None = None) -> None:
        """Sleeps until `set` is called, at most so long where a time is given. Several calls before it count as one."""
        with suppress(Empty):
            self._calls.get(timeout=None if seconds is None else max(0.0, seconds))
            while True:
                self._calls.get_nowait()
