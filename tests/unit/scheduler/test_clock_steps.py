"""The wall clock is set: forward, the skipped fires are caught up for; back, no fire comes twice and none is lost."""

from datetime import timedelta

import pytest

from taskpilot.domain.times import to_micros
from tests.keeper import NOON
from tests.unit.scheduler.conftest import Keep

pytestmark = pytest.mark.slow

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TENS = [NOON + 10 * MINUTE * n for n in range(1, 13)]


def test_an_hour_forward_is_noted_and_caught_up_for(keep: Keep) -> None:
    keeper = keep(tens='schedule=cron("*/10 * * * *"), catch_up_window="25m"')
    keeper.ticks(11 * MINUTE)
    keeper.steps(HOUR)
    keeper.ticks(MINUTE)
    assert keeper.clock_events() == [("forward", NOON + 11 * MINUTE, NOON + 71 * MINUTE + 15 * SECOND)]
    # At 13:11:15 those of 12:50 on are within 25 minutes; the last one catches up for the others.
    expected = ["started", "missed", "missed", "missed", "coalesced", "coalesced", "started"]
    assert keeper.outcomes("tens") == dict(zip(TENS[:7], expected, strict=True))
    assert any("the clock was set forward" in line for line in keeper.log.lines)


def test_after_an_hour_back_short_periods_go_on_at_once_and_long_ones_come_once(keep: Keep) -> None:
    keeper = keep(tens='schedule=cron("*/10 * * * *")', hourly='schedule=cron("0 * * * *")')
    keeper.ticks(65 * MINUTE)
    assert keeper.starts("tens") == TENS[:6]
    keeper.steps(-HOUR)
    keeper.ticks(MINUTE)
    back = NOON + 5 * MINUTE + 15 * SECOND
    assert keeper.clock_events() == [("backward", NOON + 65 * MINUTE + 15 * SECOND, back), ("cursor", NOON + HOUR, back)]
    keeper.ticks(114 * MINUTE)
    assert keeper.clock() == NOON + 2 * HOUR
    assert keeper.outcomes("tens") == dict.fromkeys(TENS, "started")
    assert sorted(keeper.starts("tens")) == sorted([*TENS[:6], *TENS])
    # The clock went back by less than its period: the fire of 13:00 is not repeated.
    assert keeper.starts("hourly") == [NOON + HOUR, NOON + 2 * HOUR]
    assert len(keeper.clock_events()) == 2


@pytest.mark.parametrize("days", [-400, 400])
def test_a_wrong_clock_of_400_days_leaves_every_job_alive(keep: Keep, days: int) -> None:
    """The server runs under the wrong clock, is killed there, and starts anew under the right one."""
    jobs = {"often": 'schedule=every("20s")', "daily": 'schedule=cron("1 12 * * *")', "queued": 'schedule=every("10m"), jitter="9m"'}
    keeper = keep(keeper={"start": NOON + days * DAY}, **jobs)
    keeper.ticks(12 * MINUTE, every=10 * SECOND)
    wrong = len(keeper.starts("often"))
    assert wrong >= 30
    keeper.clock.set(NOON)
    keeper.serve()
    keeper.start()
    keeper.ticks(12 * MINUTE, every=10 * SECOND)
    assert len(keeper.starts("often")) >= 2 * wrong - 2
    right = [fire for fire in keeper.starts("daily") if fire >= NOON]
    assert NOON + MINUTE in right
    assert [row for row in keeper.rows("SELECT cursor FROM schedules") if row["cursor"] > to_micros(keeper.clock())] == []
    assert keeper.rows("SELECT 1 FROM fires WHERE outcome = 'buffered' AND start_after > ?", to_micros(NOON + HOUR)) == []
    steps = [kind for kind, _, _ in keeper.clock_events() if kind != "asleep"]
    assert steps == (["backward", "cursor"] if days > 0 else [])


@pytest.mark.parametrize("step", [-400 * DAY, -HOUR, HOUR, 400 * DAY])
def test_a_step_loses_no_running_run(keep: Keep, step: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = keep(settings="lease_seconds = 300\n", often='schedule=every("20s"), overlap="allow_all"')
    monkeypatch.setattr(keeper.engine, "finish", lambda _claim: None)
    keeper.ticks(MINUTE, every=SECOND)
    running = keeper.rows("SELECT id FROM runs WHERE status = 'running'")
    assert running
    keeper.steps(step)
    keeper.ticks(10 * SECOND, every=SECOND)
    assert keeper.rows("SELECT 1 FROM runs WHERE status = 'lost'") == []
    assert len(keeper.rows("SELECT 1 FROM runs WHERE status = 'running'")) >= len(running)


def test_a_gap_is_cut_where_the_clock_comes_back(keep: Keep) -> None:
    """A year ahead the fires of the year are missed; they are due all the same when their time comes."""
    keeper = keep(minutely='schedule=cron("* * * * *"), catch_up="skip"')
    keeper.ticks(2 * MINUTE)
    keeper.steps(365 * DAY)
    keeper.ticks(MINUTE)
    assert keeper.rows("SELECT number FROM fire_gaps")[0]["number"] > 500_000
    keeper.steps(-365 * DAY)
    keeper.ticks(5 * MINUTE)
    now = keeper.clock()
    assert all(fire <= now for fire in keeper.outcomes("minutely"))
    assert set(list(keeper.outcomes("minutely").values())[-4:]) == {"started"}


def test_a_scheduler_continues_its_regular_work_after_the_clock_was_set_back(keep: Keep) -> None:
    keeper = keep(hourly='schedule=cron("0 * * * *")')
    keeper.ticks(65 * MINUTE)
    keeper.steps(-HOUR)
    keeper.ticks(15 * SECOND)
    assert keeper.rows("SELECT last_tick_at FROM schedulers")[0]["last_tick_at"] == keeper.clock().timestamp() * 1_000_000


def test_a_new_job_is_met_although_the_clock_went_back_after_it_was_seen(keep: Keep) -> None:
    keeper = keep(often='schedule=every("1m")')
    keeper.ticks(10 * MINUTE)
    keeper.steps(-10 * MINUTE)
    keeper.ticks(20 * MINUTE)
    assert keeper.outcomes("often") == {NOON + MINUTE * n: "started" for n in range(1, 21)}


@pytest.mark.parametrize("seconds", [-29, -5, -0.5, 0.5, 5, 29])
def test_a_small_step_is_no_event_and_loses_nothing(keep: Keep, seconds: float) -> None:
    keeper = keep(often='schedule=every("10s"), overlap="allow_all"')
    keeper.ticks(MINUTE, every=SECOND)
    keeper.steps(timedelta(seconds=seconds))
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
    other.tick()
    keeper.steps(HOUR)
    keeper.tick()
    other.tick()
    assert [kind for kind, _, _ in keeper.clock_events()] == ["forward"]
