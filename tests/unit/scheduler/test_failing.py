"""What fails in a tick is recorded, and done at the next one."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from taskpilot.domain.fires import StartOrder
from tests.keeper import NOON, Keeper
from tests.unit.scheduler.conftest import Keep

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
QUICKLY = "lease_seconds = 5\n"
"""A store that is locked is waited for by a sixth of it."""


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Another process in the middle of a long write."""
    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_store_that_is_locked_loses_no_fire(keep: Keep) -> None:
    keeper = keep(settings=QUICKLY, often='schedule=every("5s"), overlap="allow_all"')
    keeper.ticks(10 * SECOND, every=SECOND)
    with locked(keeper.deployment.store.path):
        keeper.ticks(10 * SECOND, every=5 * SECOND)
        assert "locked" in str(keeper.scheduler.error)
    keeper.ticks(10 * SECOND, every=SECOND)
    assert keeper.scheduler.error is None
    assert keeper.outcomes("often") == {NOON + 5 * SECOND * n: "started" for n in range(1, 7)}
    assert keeper.starts("often") == sorted(keeper.starts("often"))
    assert sum("could not do its work" in line for line in keeper.log.lines) == 1
    assert sum("works again" in line for line in keeper.log.lines) == 1


def test_an_error_is_in_the_record_until_it_is_over(keep: Keep) -> None:
    keeper = keep(minutely='schedule=every("1m")')
    keeper.engine.refuses = True
    keeper.ticks(MINUTE + 10 * SECOND, every=SECOND)
    assert keeper.scheduler.error == "RuntimeError: the engine is away"
    keeper.scheduler.record_state(keeper.scheduler.state)
    assert _error(keeper) == "RuntimeError: the engine is away"
    keeper.engine.refuses = False
    keeper.ticks(10 * SECOND, every=SECOND)
    assert keeper.scheduler.error is None
    assert _error(keeper) is None


def test_a_fire_that_was_late_since_ticks_failed_says_so(keep: Keep) -> None:
    keeper = keep(settings=QUICKLY, tens='schedule=every("10s"), catch_up="skip"')
    with locked(keeper.deployment.store.path):
        keeper.ticks(MINUTE, every=20 * SECOND)
    keeper.ticks(SECOND)
    facts = keeper.reasons("tens")[0].facts
    assert (facts["unseen"], facts["failing_since"]) == ("failing", "2026-11-23T12:00:20Z")
    assert "locked" in str(facts["scheduler_error"])


def test_an_engine_that_refuses_gets_the_orders_again_in_order(keep: Keep) -> None:
    keeper = keep(**{f"job_{letter}": 'schedule=every("1m")' for letter in "abc"})
    keeper.engine.holds = keeper.engine.refuses = True
    keeper.ticks(MINUTE + 3 * SECOND, every=SECOND)
    assert keeper.rows("SELECT DISTINCT launched_at FROM fires")[0]["launched_at"] is None
    keeper.engine.refuses = False
    keeper.ticks(SECOND)
    assert keeper.engine.orders == [StartOrder(f"job_{letter}", NOON + MINUTE) for letter in "abc"]


def test_an_engine_that_takes_one_order_keeps_that_one(keep: Keep) -> None:
    keeper = keep(**{f"job_{letter}": 'schedule=every("1m")' for letter in "abc"})
    engine, taken = keeper.engine, []

    def submit(order: StartOrder) -> None:
        if len(taken) == 1:
            raise OSError("broken pipe")
        taken.append(order)

    engine.submit = submit  # type: ignore[method-assign]
    keeper.ticks(MINUTE)
    rows = keeper.rows("SELECT job FROM fires WHERE launched_at IS NULL ORDER BY job")
    assert [order.job for order in taken] == ["job_a"]
    assert [row["job"] for row in rows] == ["job_b", "job_c"]


def test_a_failed_tick_does_its_regular_work_at_the_next_one(keep: Keep) -> None:
    keeper = keep(settings=QUICKLY, hourly='schedule=every("1h")')
    keeper.ticks(5 * SECOND)
    with locked(keeper.deployment.store.path):
        keeper.ticks(5 * SECOND)
        assert keeper.scheduler.error is not None
    keeper.ticks(SECOND)
    assert keeper.rows("SELECT last_tick_at FROM schedulers")[0]["last_tick_at"] == keeper.clock().timestamp() * 1_000_000


def _error(keeper: Keeper) -> str | None:
    error: str | None = keeper.rows("SELECT error FROM schedulers")[0]["error"]
    return error
