"""Nobody was awake: a sleep, a restart, a state copy of yesterday. What was missed is caught up for once, staggered, and recorded."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from taskpilot.domain.fires import SchedulerState
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.times import utc_iso
from taskpilot.store import schedulers
from taskpilot.testing import ManualClock
from tests.keeper import NOON, Keeper
from tests.unit.scheduler.conftest import Keep

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def test_a_minute_without_a_tick_is_noted_and_its_fires_have_their_outcomes(keep: Keep) -> None:
    keeper = keep(often='schedule=every("10s"), overlap="allow_all"')
    keeper.ticks(MINUTE)
    keeper.passes(MINUTE)
    keeper.tick()
    asleep, awake = NOON + MINUTE, NOON + 2 * MINUTE
    assert keeper.clock_events() == [("asleep", asleep, awake)]
    outcomes = keeper.outcomes("often")
    assert list(outcomes) == [NOON + 10 * SECOND * n for n in range(1, 13)]
    # Those of the last two wake-ups are punctual; the older ones are covered by them.
    assert list(outcomes.values()) == ["started"] * 6 + ["coalesced"] * 3 + ["started"] * 3
    unseen = {"unseen": "asleep", "asleep_since": utc_iso(asleep), "asleep_until": utc_iso(awake)}
    covered = keeper.reasons("often")[6]
    assert covered == Reason(ReasonCode.CAUGHT_UP_BY, {"fire": utc_iso(NOON + 2 * MINUTE), **unseen})
    assert any("no scheduler was running" in line for line in keeper.log.lines)


def test_a_short_delay_is_no_sleep(keep: Keep) -> None:
    keeper = keep(often='schedule=every("10s"), overlap="allow_all"')
    keeper.ticks(MINUTE)
    keeper.passes(29 * SECOND)
    keeper.tick()
    assert keeper.clock_events() == []
    assert set(keeper.outcomes("often").values()) == {"started"}
    assert len(keeper.outcomes("often")) == 8


def test_an_hour_is_caught_up_by_the_last_fire_within_the_window(keep: Keep) -> None:
    keeper = keep(quarterly='schedule=cron("*/15 * * * *")', skipping='schedule=cron("*/15 * * * *"), catch_up="skip"')
    keeper.ticks(MINUTE)
    keeper.passes(HOUR + MINUTE)
    keeper.tick()
    # 13:02: the fire of 13:00 is two minutes old, within half of its period; the three before it are not.
    quarters = [NOON + 15 * MINUTE * n for n in range(1, 5)]
    assert keeper.outcomes("quarterly") == dict(zip(quarters, ["missed"] * 3 + ["started"], strict=True))
    assert keeper.outcomes("skipping") == dict.fromkeys(quarters, "missed")
    passed = keeper.reasons("quarterly")[-1]
    assert (passed.code, passed.facts["window_seconds"]) == (ReasonCode.CATCH_UP_WINDOW_PASSED, 450)
    assert keeper.reasons("skipping")[0].code is ReasonCode.CATCH_UP_OFF


def test_a_month_of_missed_seconds_is_one_gap(keep: Keep) -> None:
    keeper = keep(ticking='schedule=every("1s")')
    keeper.ticks(5 * SECOND, every=SECOND)
    keeper.passes(30 * DAY)
    keeper.tick()
    gaps = keeper.rows("SELECT * FROM fire_gaps ORDER BY from_at")
    rows = keeper.rows("SELECT outcome, count(*) AS number FROM fires GROUP BY outcome")
    counted = sum(gap["number"] for gap in gaps) + sum(row["number"] for row in rows)
    assert counted == 30 * 86_400 + 5
    # Too old to be looked at; covered by the punctual ones; and of those one starts, the others find it waiting.
    assert [gap["outcome"] for gap in gaps][:2] == ["missed", "coalesced"]
    assert len(gaps) <= 3
    assert sum(row["number"] for row in rows) <= 40
    totals = {row["labels"]: row["value"] for row in keeper.rows("SELECT * FROM totals WHERE metric = 'taskpilot_fires_total'")}
    assert sum(totals.values()) == counted
    assert keeper.clock_events() == [("asleep", NOON + 5 * SECOND, NOON + 30 * DAY + 5 * SECOND)]
    keeper.ticks(3 * SECOND, every=SECOND)
    newest = keeper.rows("SELECT outcome FROM fires ORDER BY scheduled_for DESC LIMIT 3")
    assert [row["outcome"] for row in newest] == ["started"] * 3


def test_a_restart_within_a_wake_up_is_no_sleep(keep: Keep) -> None:
    keeper = keep(often='schedule=every("10s"), overlap="allow_all"')
    keeper.ticks(MINUTE)
    keeper.scheduler.record_state(SchedulerState.STOPPED)
    keeper.passes(20 * SECOND)
    keeper.serve()
    keeper.start()
    assert keeper.clock_events() == []
    assert list(keeper.outcomes("often").values()) == ["started"] * 8


def test_a_restart_after_an_hour_catches_up_once_and_staggered(keep: Keep) -> None:
    jobs = {f"job_{n}": 'schedule=cron("30 * * * *"), catch_up_window="1h"' for n in range(3)}
    keeper = keep(**jobs)
    keeper.ticks(MINUTE)
    keeper.scheduler.record_state(SchedulerState.STOPPED)
    keeper.passes(HOUR)
    keeper.serve()
    keeper.start()
    assert keeper.clock_events() == [("asleep", NOON + MINUTE, NOON + HOUR + MINUTE)]
    keeper.ticks(MINUTE, every=SECOND)
    starts = keeper.rows("SELECT job, started_at FROM runs ORDER BY started_at")
    assert sorted(row["job"] for row in starts) == ["job_0", "job_1", "job_2"]
    began = starts[0]["started_at"]
    assert [(row["started_at"] - began) / 1e6 for row in starts] == [0, 10, 20]
    for job in jobs:
        assert keeper.outcomes(job) == {NOON + 30 * MINUTE: "started"}


def test_everything_is_caught_up_where_the_job_is_so_configured_up_to_its_limit(keep: Keep) -> None:
    keeper = keep(every_one='schedule=cron("*/10 * * * *"), catch_up="all", catch_up_window="2h", catch_up_limit=4, catch_up_stagger="1s"')
    keeper.ticks(MINUTE)
    keeper.passes(HOUR + 4 * MINUTE)
    keeper.ticks(MINUTE, every=SECOND)
    tens = [NOON + 10 * MINUTE * n for n in range(1, 7)]
    assert keeper.outcomes("every_one") == dict(zip(tens, ["missed"] * 2 + ["started"] * 4, strict=True))
    assert keeper.starts("every_one") == tens[2:]


def test_a_state_copy_taken_to_tomorrow_catches_up_once_and_starts_nothing_twice(keep: Keep, tmp_path: Path) -> None:
    jobs = {f"job_{n}": 'schedule=cron("0 * * * *"), catch_up_window="12h"' for n in range(3)}
    keeper = keep(**jobs)
    keeper.ticks(HOUR)
    today = {job: keeper.outcomes(job) for job in jobs}
    keeper.close()
    shutil.copytree(keeper.deployment.settings.state_dir, tmp_path / "copy")
    tomorrow = NOON + DAY + 90 * MINUTE
    copy = Keeper(keeper.root, home=tmp_path / "copy", clock=ManualClock(tomorrow))
    try:
        copy.start()
        copy.ticks(MINUTE, every=SECOND)
        assert copy.clock_events() == [("asleep", NOON + HOUR, tomorrow)]
        for job in jobs:
            found = copy.outcomes(job)
            assert {fire: found.pop(fire) for fire in today[job]} == today[job]
            hours = [NOON + HOUR + HOUR * n for n in range(1, 25)]
            within = [hour for hour in hours if hour >= tomorrow - 12 * HOUR]
            expected = dict.fromkeys(hours, "missed") | dict.fromkeys(within, "coalesced") | {within[-1]: "started"}
            assert found == expected
        starts = copy.rows("SELECT started_at FROM runs WHERE scheduled_for > ? ORDER BY started_at", (NOON + 3 * HOUR).timestamp() * 1e6)
        apart = [round((row["started_at"] - starts[0]["started_at"]) / 1e6) for row in starts]
        assert apart == [0, 10, 20]
    finally:
        copy.close()


def test_a_sleep_is_recorded_once_although_the_first_claim_after_it_fails(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = keep(hourly='schedule=cron("30 * * * *"), catch_up_window="10m"')
    keeper.ticks(MINUTE)
    keeper.passes(HOUR)
    with monkeypatch.context() as patched:
        patched.setattr("taskpilot.ledger.fires.schedules.pauses_in_force", _fails)
        keeper.tick()
    assert keeper.scheduler.error == "RuntimeError: no luck"
    keeper.ticks(3 * SECOND, every=SECOND)
    assert keeper.scheduler.error is None
    assert keeper.clock_events() == [("asleep", NOON + MINUTE, NOON + HOUR + MINUTE)]
    unseen = {"unseen": "asleep", "asleep_since": "2026-11-23T12:01:00Z", "asleep_until": "2026-11-23T13:01:01Z"}
    assert keeper.reasons("hourly") == [Reason(ReasonCode.CATCH_UP_WINDOW_PASSED, {"window_seconds": 600, **unseen})]


def test_a_failed_tick_is_no_sleep_since_the_server_of_yesterday(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = keep(minutely='schedule=cron("* * * * *")')
    with keeper.deployment.store.write() as connection:
        schedulers.begin_scheduler(
            connection, "yesterday's", owner=keeper.deployment.owner, version="1", now=NOON - DAY, boot=keeper.deployment.boot()
        )
    keeper.ticks(MINUTE)
    with monkeypatch.context() as patched:
        patched.setattr("taskpilot.ledger.fires.schedules.schedules_in_force", _fails)
        keeper.ticks(MINUTE + SECOND, every=SECOND)
    keeper.ticks(MINUTE, every=SECOND)
    assert keeper.scheduler.error is None
    assert all(start >= NOON for _kind, start, _end in keeper.clock_events()), keeper.clock_events()
    assert set(keeper.outcomes("minutely")) == {NOON + MINUTE * n for n in range(1, 4)}


def _fails(*_: object) -> None:
    raise RuntimeError("no luck")
