"""What is due next, and what wakes a scheduler: the heap, and APScheduler."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest

from taskpilot.domain.schedule import Schedule
from taskpilot.domain.times import utc_now
from taskpilot.scheduler.alarms import Alarms
from taskpilot.scheduler.clock import Clock
from taskpilot.schedules.schedule import at, cron, every
from tests.keeper import NOON

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def test_what_is_due_rings_once_with_the_time_since_when_it_is() -> None:
    alarms = Alarms()
    schedules: dict[str, Schedule] = {"minutely": every("1m"), "same": every("1m"), "hourly": every("1h"), "once": at(NOON + MINUTE)}
    alarms.set(schedules, after=dict.fromkeys(schedules, NOON))
    assert alarms.next == NOON + MINUTE
    assert alarms.ring(NOON + MINUTE - SECOND) == {}
    assert alarms.ring(NOON + MINUTE) == dict.fromkeys(["minutely", "same", "once"], NOON + MINUTE)
    assert alarms.ring(NOON + MINUTE) == {}
    assert alarms.next == NOON + 2 * MINUTE


def test_what_rang_late_rings_once_for_all_of_its_fires() -> None:
    alarms = Alarms()
    alarms.set({"minutely": every("1m")}, after={"minutely": NOON - timedelta(days=1)})
    assert alarms.ring(NOON + SECOND) == {"minutely": NOON - timedelta(days=1) + MINUTE}
    assert alarms.next == NOON + MINUTE


def test_jobs_of_one_schedule_may_have_come_to_different_times() -> None:
    alarms = Alarms()
    alarms.set({"behind": every("1m"), "ahead": every("1m")}, after={"behind": NOON, "ahead": NOON + 5 * MINUTE})
    assert alarms.ring(NOON + 2 * MINUTE) == {"behind": NOON + MINUTE}
    assert alarms.next == NOON + 3 * MINUTE
    assert set(alarms.ring(NOON + 6 * MINUTE)) == {"behind", "ahead"}


def test_a_job_without_a_cursor_or_a_further_fire_has_no_alarm() -> None:
    alarms = Alarms()
    assert alarms.next is None
    alarms.set({"unseen": every("1m"), "over": at(NOON)}, after={"over": NOON})
    assert alarms.next is None
    assert alarms.ring(NOON + MINUTE) == {}


def test_only_the_newest_definitions_ring() -> None:
    alarms = Alarms()
    alarms.set({"job_a": every("1m")}, after={"job_a": NOON})
    alarms.set({"job_b": every("2m")}, after={"job_b": NOON})
    assert alarms.ring(NOON + 10 * MINUTE) == {"job_b": NOON + 2 * MINUTE}


class Ear:
    """Hears a clock."""

    def __init__(self) -> None:
        self.heard = threading.Semaphore(0)
        self.clock = Clock(lambda _: self.heard.release())

    def hears(self, seconds: float) -> bool:
        return self.heard.acquire(timeout=seconds)


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    yield made
    made.clock.stop()


def test_apscheduler_wakes_for_what_is_due_in_a_second(ear: Ear) -> None:
    ear.clock.set_schedules({"soon": every("1s"), "much_later": cron("0 0 1 1 *")})
    ear.clock.start()
    assert ear.hears(20)
    assert utc_now().microsecond < 900_000
    assert ear.hears(20)


def test_schedules_are_added_changed_and_removed_while_the_clock_runs(ear: Ear) -> None:
    ear.clock.start()
    ear.clock.set_schedules({"far": every("1000d")})
    assert not ear.hears(0.01)
    ear.clock.set_schedules({"far": every("1000d"), "soon": every("1s")})
    assert ear.hears(20)
    ear.clock.set_schedules({"far": every("1000d"), "soon": every("2000d")})
    while ear.hears(0):
        pass
    assert not ear.hears(1.1)
    ear.clock.set_schedules({"far": every("1s")})
    assert ear.hears(20)
    ear.clock.set_schedules({})
    ear.clock.set_schedules({"once": at(utc_now() + SECOND)})
    assert ear.hears(20)
    # It has left APScheduler's store by itself; removing it again is no error.
    ear.clock.set_schedules({})


def test_a_clock_that_stands_still_wakes_nobody(ear: Ear) -> None:
    ear.clock.set_schedules({"soon": every("1s")})
    ear.clock.look_again()
    ear.clock.stop()
    assert not ear.hears(1.1)
