"""Ordinary running: each fire is met at its time, and orders go out in order, never more than there are places."""

from datetime import timedelta
from typing import Any

import pytest

from taskpilot.domain.times import from_micros
from taskpilot.ledger.claims import Claimed, Definitions
from taskpilot.ledger.fires import Fires
from taskpilot.store import schedules
from tests.keeper import NOON
from tests.unit.scheduler.conftest import Keep

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def test_every_fire_is_met_at_its_second(keep: Keep) -> None:
    keeper = keep(minutely='schedule=cron("* * * * *")', often='schedule=every("10s")')
    keeper.ticks(5 * MINUTE, every=SECOND)
    assert keeper.outcomes("minutely") == {NOON + MINUTE * n: "started" for n in range(1, 6)}
    assert keeper.outcomes("often") == {NOON + 10 * SECOND * n: "started" for n in range(1, 31)}
    late = keeper.rows("SELECT max(started_at - scheduled_for) AS late FROM runs")[0]["late"]
    assert late == 0
    # What is behind the cursor is never looked at again.
    assert {row["cursor"] for row in keeper.rows("SELECT cursor FROM schedules")} == {keeper.clock().timestamp() * 1_000_000}
    assert keeper.clock_events() == []
    assert keeper.scheduler.error is None


def test_a_fire_before_the_job_was_seen_is_not_its_own(keep: Keep) -> None:
    keeper = keep(hourly='schedule=cron("0 * * * *")')
    keeper.ticks(MINUTE)
    assert keeper.outcomes("hourly") == {}


def test_a_tick_in_which_nothing_is_due_writes_nothing_but_the_tick(keep: Keep) -> None:
    keeper = keep(hourly='schedule=cron("0 * * * *")')
    before = keeper.rows("SELECT cursor FROM schedules")
    keeper.ticks(10 * MINUTE)
    assert keeper.rows("SELECT cursor FROM schedules") == before
    assert keeper.rows("SELECT last_tick_at FROM schedulers")[0]["last_tick_at"] == (NOON + 10 * MINUTE).timestamp() * 1_000_000


def test_orders_go_out_in_order_and_never_more_than_there_are_places(keep: Keep) -> None:
    jobs = {f"job_{letter}": 'schedule=every("1m")' for letter in "cabde"}
    keeper = keep(settings="max_concurrent_runs = 2\n", **jobs)
    keeper.engine.holds = True
    keeper.ticks(MINUTE, every=SECOND)
    assert [order.job for order in keeper.engine.orders] == ["job_a", "job_b"]
    running = [keeper.engine.begin(order) for order in keeper.engine.orders]
    keeper.ticks(5 * SECOND, every=SECOND)
    assert len(keeper.engine.orders) == 2
    keeper.engine.finish(running[1])
    keeper.ticks(SECOND)
    assert [order.job for order in keeper.engine.orders] == ["job_a", "job_b", "job_c"]
    keeper.engine.finish(keeper.engine.begin(keeper.engine.orders[2]))
    keeper.engine.finish(running[0])
    keeper.ticks(SECOND)
    assert [order.job for order in keeper.engine.orders][3:] == ["job_d", "job_e"]


def test_an_order_that_no_process_takes_is_given_again(keep: Keep) -> None:
    keeper = keep(minutely='schedule=every("1m")')
    keeper.engine.holds = True
    keeper.ticks(MINUTE + 25 * SECOND, every=SECOND)
    assert len(keeper.engine.orders) == 1
    keeper.ticks(10 * SECOND, every=SECOND)
    assert keeper.engine.orders == keeper.engine.orders[:1] * 2


def test_a_starting_scheduler_claims_but_starts_nothing(keep: Keep) -> None:
    keeper = keep(start=False, minutely='schedule=every("1m")')
    keeper.ticks(MINUTE)
    assert keeper.outcomes("minutely") == {NOON + MINUTE: "buffered"}
    assert keeper.engine.orders == []


def test_a_skipped_fire_publishes_its_job_and_no_other(keep: Keep) -> None:
    keeper = keep(busy='schedule=every("1m"), overlap="skip"', other='schedule=every("1h")')
    keeper.engine.holds = True
    keeper.ticks(MINUTE)
    claim = keeper.engine.begin(keeper.engine.orders[0])
    keeper.changed.clear()
    for _ in range(3):
        assert keeper.changed == set()
        keeper.deployment.ledger.renew(claim.grant, active_seconds=1)
        keeper.ticks(20 * SECOND)
    assert keeper.outcomes("busy")[NOON + 2 * MINUTE] == "skipped_overlap"
    assert keeper.changed == {"busy"}


def test_jobs_of_one_schedule_may_have_different_cursors(keep: Keep) -> None:
    keeper = keep(behind='schedule=every("1m")', ahead='schedule=every("1m")')
    with keeper.deployment.store.write() as connection:
        schedules.move_cursors(connection, ["ahead"], NOON + MINUTE)
    keeper.ticks(5 * MINUTE, every=SECOND)
    assert list(keeper.outcomes("behind")) == [NOON + MINUTE * n for n in range(1, 6)]
    assert list(keeper.outcomes("ahead")) == [NOON + MINUTE * n for n in range(2, 6)]


def test_only_the_jobs_whose_schedule_is_due_are_claimed(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = keep(minutely='schedule=cron("* * * * *")', same='schedule=cron("* * * * *")', hourly='schedule=every("1h")')
    asked: list[object] = []
    claim_due = Fires.claim_due

    def noted(self: Fires, jobs: Definitions, **options: Any) -> Claimed:
        asked.append(options["only"])
        return claim_due(self, jobs, **options)

    monkeypatch.setattr(Fires, "claim_due", noted)
    keeper.ticks(MINUTE, every=SECOND)
    assert asked == [{"minutely", "same"}]


def test_the_next_start_in_the_queue_is_a_wake_up(keep: Keep) -> None:
    keeper = keep(late='schedule=every("1m"), jitter="30s"')
    keeper.ticks(MINUTE)
    [fire] = keeper.rows("SELECT start_after FROM fires")
    [moment] = keeper.wake_ups.moments.values()
    assert moment == from_micros(fire["start_after"])
    assert NOON + MINUTE < moment < NOON + MINUTE + 30 * SECOND
    keeper.passes(moment - keeper.clock())
    keeper.tick()
    assert keeper.starts("late") == [NOON + MINUTE]


def test_the_lag_is_that_of_the_last_wake_up_for_a_fire(keep: Keep) -> None:
    keeper = keep(minutely='schedule=every("1m")')
    keeper.passes(MINUTE + 2 * SECOND)
    keeper.tick()
    keeper.ticks(10 * SECOND)
    assert keeper.rows("SELECT lag_micros FROM schedulers")[0]["lag_micros"] == 2_000_000
