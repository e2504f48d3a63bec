"""The wall clock is set: forward, the skipped fires are caught up for; back, no fire comes twice and none is lost."""

from datetime import timedelta

import pytest

from tests.keeper import NOON
from tests.unit.scheduler.conftest import Keep

pytestmark = pytest.mark.slow

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
TENS = [NOON + 10 * MINUTE * n for n in range(1, 13)]


def test_an_hour_forward_is_noted_and_caught_up_for(keep: Keep) -> None:
    keeper = keep(tens='schedule=cron("*/10 * * * *"), catch_up_window="25m"')
    keeper.ticks(11 * MINUTE)
    keeper.clock.advance(HOUR)
    keeper.ticks(MINUTE)
    assert keeper.clock_events() == [("forward", NOON + 11 * MINUTE, NOON + 71 * MINUTE + 15 * SECOND)]
    # At 13:11:15 those of 12:50 on are within 25 minutes; the last one catches up for the others.
    expected = ["started", "missed", "missed", "missed", "coalesced", "coalesced", "started"]
    assert keeper.outcomes("tens") == dict(zip(TENS[:7], expected, strict=True))
    assert any("the clock was set forward" in line for line in keeper.log.lines)


def test_an_hour_back_is_noted_and_no_fire_comes_twice_or_is_lost(keep: Keep) -> None:
    keeper = keep(tens='schedule=cron("*/10 * * * *")', hourly='schedule=cron("0 * * * *")')
    keeper.ticks(65 * MINUTE)
    before = keeper.outcomes("tens")
    keeper.clock.advance(-HOUR)
    keeper.ticks(MINUTE)
    kind, start, end = keeper.clock_events()[0]
    assert (kind, start, end) == ("backward", NOON + 65 * MINUTE, NOON + 5 * MINUTE + 15 * SECOND)
    keeper.ticks(58 * MINUTE)
    assert keeper.outcomes("tens") == before
    keeper.ticks(56 * MINUTE)
    assert len(keeper.clock_events()) == 1
    assert keeper.clock() == NOON + 2 * HOUR
    assert keeper.outcomes("tens") == dict.fromkeys(TENS, "started")
    assert keeper.starts("tens") == TENS
    assert keeper.outcomes("hourly") == dict.fromkeys([NOON + HOUR, NOON + 2 * HOUR], "started")


def test_a_scheduler_continues_its_regular_work_after_the_clock_was_set_back(keep: Keep) -> None:
    keeper = keep(hourly='schedule=cron("0 * * * *")')
    keeper.ticks(65 * MINUTE)
    keeper.clock.advance(-HOUR)
    keeper.ticks(15 * SECOND)
    assert keeper.rows("SELECT last_tick_at FROM schedulers")[0]["last_tick_at"] == keeper.clock().timestamp() * 1_000_000


def test_a_new_job_is_met_although_the_clock_went_back_after_it_was_seen(keep: Keep) -> None:
    keeper = keep(often='schedule=every("1m")')
    keeper.ticks(10 * MINUTE)
    keeper.clock.advance(-10 * MINUTE)
    keeper.ticks(20 * MINUTE)
    assert keeper.outcomes("often") == {NOON + MINUTE * n: "started" for n in range(1, 21)}


@pytest.mark.parametrize("seconds", [-29, -5, -0.5, 0.5, 5, 29])
def test_a_small_step_is_no_event_and_loses_nothing(keep: Keep, seconds: float) -> None:
    keeper = keep(often='schedule=every("10s"), overlap="allow_all"')
    keeper.ticks(MINUTE, every=SECOND)
    keeper.clock.advance(timedelta(seconds=seconds))
    keeper.tick()
    keeper.ticks(NOON + 2 * MINUTE - keeper.clock(), every=SECOND)
    assert keeper.clock_events() == []
    assert keeper.outcomes("often") == {NOON + 10 * SECOND * n: "started" for n in range(1, 13)}


def test_a_suspend_is_a_sleep_and_no_step(keep: Keep) -> None:
    keeper = keep(often='schedule=every("10s")')
    keeper.ticks(MINUTE)
    keeper.passes(10 * MINUTE)
    keeper.ticks(MINUTE)
    assert [kind for kind, _, _ in keeper.clock_events()] == ["asleep"]


def test_a_step_forward_during_another_scheduler_is_noted_once(keep: Keep) -> None:
    keeper = keep(often='schedule=every("10s")')
    other = keep(start=False, keeper={"clock": keeper.clock})
    other.close()
    other.deployment = keeper.deployment
    other.serve()
    other.start()
    keeper.ticks(MINUTE)
    other.boot_seconds = keeper.boot_seconds
    other.tick()
    keeper.clock.advance(HOUR)
    keeper.tick()
    other.tick()
    assert [kind for kind, _, _ in keeper.clock_events()] == ["forward"]
