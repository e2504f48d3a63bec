"""APScheduler as the clock: when it calls, what it calls, and what it does when the wall clock is set."""

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from taskpilot.domain.schedule import Schedule
from taskpilot.domain.times import utc_now
from taskpilot.scheduler.clock import Clock
from taskpilot.schedules.schedule import at, cron, every

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
LATEST = 60.0
"""Seconds: a busy machine may be this late."""


class Listener:
    """A clock whose wake-ups are counted, with what was called before each."""

    def __init__(self) -> None:
        self.woken = threading.Semaphore(0)
        self.called: list[tuple[Schedule, datetime]] = []
        self.called_before_wake_up: list[int] = []
        self.clock = Clock(self._wake)

    def _wake(self) -> None:
        self.called_before_wake_up.append(len(self.called))
        self.woken.release()

    def set_schedules(self, *schedules: Schedule) -> None:
        self.clock.set_schedules(schedules, lambda schedule, time: self.called.append((schedule, time)))

    def is_woken(self, seconds: float) -> bool:
        return self.woken.acquire(timeout=seconds)


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.clock.stop()


def test_each_fire_of_a_schedule_is_a_call_and_a_wake_up(listener: Listener) -> None:
    listener.set_schedules(every("1s"), cron("0 0 1 1 *"))
    listener.clock.start()
    for _ in range(3):
        assert listener.is_woken(LATEST)
    fires = [time for _, time in listener.called[:3]]
    assert {schedule for schedule, _ in listener.called} == {every("1s")}
    assert all(every("1s").is_fire(fire) for fire in fires)
    assert fires == sorted(set(fires))


def test_schedules_are_added_changed_and_removed_while_the_clock_runs(listener: Listener) -> None:
    listener.clock.start()
    listener.set_schedules(every("1000d"))
    assert not listener.is_woken(0.01)
    listener.set_schedules(every("1000d"), every("1s"))
    assert listener.is_woken(LATEST)
    listener.set_schedules(every("1000d"), every("2000d"))
    # One that was under way may still come.
    while listener.is_woken(0.5):
        pass
    assert not listener.is_woken(1.1)
    listener.set_schedules(every("1s"))
    assert listener.is_woken(LATEST)
    listener.set_schedules()
    listener.set_schedules(at(utc_now() + 3 * SECOND))
    assert listener.is_woken(LATEST)
    # This one has left APScheduler's store by itself; removing it again is no error.
    listener.set_schedules()


def test_a_clock_that_was_not_started_wakes_no_thread(listener: Listener) -> None:
    listener.set_schedules(every("1s"))
    listener.clock.call_every(SECOND, lambda: None, name="work")
    listener.clock.stop()
    assert not listener.is_woken(1.1)


def test_everything_that_is_due_is_called_before_the_first_wake_up(listener: Listener) -> None:
    fire = utc_now().replace(microsecond=0) + 8 * SECOND
    listener.set_schedules(*(every(timedelta(days=1 + n), anchor=fire) for n in range(500)))
    listener.clock.start()
    assert listener.is_woken(LATEST)
    assert listener.called_before_wake_up[0] == 500
    assert {time for _, time in listener.called} == {fire}


def test_regular_work_and_a_moment_are_called(listener: Listener) -> None:
    calls: list[str] = []
    listener.clock.call_every(2 * SECOND, lambda: calls.append("work"), name="work")
    listener.clock.call_at(utc_now() + HOUR, lambda: calls.append("too late"), name="moment")
    listener.clock.start()
    moment = utc_now() + 0.3 * SECOND
    listener.clock.call_at(moment, lambda: calls.append("moment"), name="moment")
    assert listener.is_woken(LATEST)
    assert calls[:1] == ["moment"]
    assert utc_now() >= moment
    for _ in range(2):
        assert listener.is_woken(LATEST)
    assert calls[:3] == ["moment", "work", "work"]
    # The same name serves the next moment.
    listener.clock.call_at(utc_now() + 0.1 * SECOND, lambda: calls.append("again"), name="moment")
    while "again" not in calls:
        assert listener.is_woken(LATEST)


@pytest.mark.parametrize("step", [HOUR, -HOUR, -10 * SECOND])
def test_it_continues_within_seconds_after_the_wall_clock_was_set(
    listener: Listener, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    listener.clock.call_every(SECOND, lambda: None, name="work")
    listener.set_schedules(every("3s"))
    listener.clock.start()
    while not listener.called:
        assert listener.is_woken(LATEST)
    before = len(listener.called)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return utc_now() + step

    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Shifted)
    until = time.monotonic() + LATEST
    while len(listener.called) < before + 2:
        assert time.monotonic() < until
        listener.is_woken(1)
    # The first may be one that was waited for before the step.
    assert abs(listener.called[-1][1] - (utc_now() + step)) < LATEST * SECOND
