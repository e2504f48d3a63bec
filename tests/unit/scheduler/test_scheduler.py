"""The ticks of a scheduler that cannot use its store, or was not awake: with the time handed in, and no process."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.fires import SchedulerState, StartOrder
from taskpilot.domain.ids import new_id
from taskpilot.scheduler.scheduler import Scheduler
from taskpilot.store import schedulers
from tests.keeper import ManualWakeUps
from tests.spine import NOON, Spine

HOURLY = """
from taskpilot import RunContext, every, job


@job(schedule=every("1h"))
def hourly(ctx: RunContext) -> None: ...
"""


class Log:
    """What was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: object, /, **fields: object) -> None:
        self.lines.append(str(message))

    def warning(self, message: object, /, **fields: object) -> None:
        self.lines.append(str(message))


class Engine:
    """Takes orders, or refuses them."""

    def __init__(self) -> None:
        self.orders: list[StartOrder] = []
        self.down = False

    def submit(self, order: StartOrder) -> None:
        if self.down:
            raise RuntimeError("no process is left")
        self.orders.append(order)


class Ticked:
    """A scheduler over a store, called by hand."""

    def __init__(self, root: Path) -> None:
        (root / "jobs").mkdir()
        (root / "jobs" / "hourly.py").write_text(HOURLY)
        self.spine = Spine(root, settings="lease_seconds = 2\n")
        self.log, self.engine = Log(), Engine()
        self.scheduler = self.begin()

    def begin(self) -> Scheduler:
        deployment = self.spine.deployment
        scheduler_id = new_id()
        with deployment.store.write() as connection:
            schedulers.begin_scheduler(
                connection, scheduler_id, owner=deployment.owner, version="1", now=deployment.now(), boot=deployment.boot()
            )
        self.wake_ups = ManualWakeUps(self.spine.clock)
        found = Scheduler(
            deployment,
            self.engine,
            self.wake_ups,
            scheduler_id=scheduler_id,
            log=self.log,
        )
        found.state = SchedulerState.RUNNING
        return found

    def tick(self, *, after: float) -> None:
        """Calls it so many seconds later."""
        self.spine.clock.advance(timedelta(seconds=after))
        self.wake_ups.catch_up()
        self.scheduler.tick()

    def rows(self, query: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.spine.store.path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Somebody else holds the store's write lock."""
        with closing(sqlite3.connect(self.spine.store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


@pytest.fixture
def ticked(tmp_path: Path) -> Iterator[Ticked]:
    opened = Ticked(tmp_path)
    yield opened
    opened.spine.close()


def test_a_scheduler_that_could_not_write_was_awake_all_the_same(ticked: Ticked) -> None:
    ticked.tick(after=0)
    ticked.spine.clock.advance(timedelta(hours=1))
    ticked.scheduler = ticked.begin()
    ticked.tick(after=0)
    assert len(ticked.rows("SELECT 1 FROM clock_events")) == 1
    for _ in range(60):
        ticked.tick(after=1)
    with ticked.locked():
        ticked.tick(after=6)
        assert "locked" in str(ticked.scheduler.error)
    for _ in range(3):
        ticked.tick(after=1)
    assert ticked.scheduler.error is None
    assert len(ticked.rows("SELECT 1 FROM clock_events")) == 1


def test_a_sleep_that_could_not_be_recorded_at_first_is_recorded_later(ticked: Ticked) -> None:
    ticked.tick(after=0)
    with ticked.locked():
        ticked.tick(after=7200)
        ticked.tick(after=1)
    ticked.tick(after=1)
    assert [(row["kind"], row["from_at"]) for row in ticked.rows("SELECT kind, from_at FROM clock_events")] == [
        ("asleep", int(NOON.timestamp()) * 1_000_000)
    ]
    assert [row["outcome"] for row in ticked.rows("SELECT outcome FROM fires")] == ["buffered"]
    [gap] = ticked.rows("SELECT * FROM fire_gaps")
    assert (gap["number"], gap["outcome"]) == (1, "missed")
    facts = json.loads(gap["reason_facts"])
    assert (facts["unseen"], facts["asleep_since"]) == ("asleep", "2026-11-23T12:00:00Z")


def test_an_error_of_a_scheduler_stays_in_its_row_until_it_works_again(ticked: Ticked) -> None:
    ticked.tick(after=0)
    ticked.engine.down = True
    ticked.tick(after=3600)
    for second in range(60):
        ticked.tick(after=1)
        [row] = ticked.rows("SELECT error, last_tick_at FROM schedulers")
        assert row["error"] == "RuntimeError: no process is left"
        assert row["last_tick_at"] == (int(NOON.timestamp()) + 3601 + second) * 1_000_000
    ticked.engine.down = False
    ticked.tick(after=1)
    [row] = ticked.rows("SELECT error FROM schedulers")
    assert row["error"] is None
    assert [order.job for order in ticked.engine.orders] == ["hourly"]
    assert [line for line in ticked.log.lines if "could not do its work" in line or "works again" in line] == [
        "the scheduler could not do its work and tries again: RuntimeError: no process is left",
        "the scheduler works again after: RuntimeError: no process is left",
    ]
