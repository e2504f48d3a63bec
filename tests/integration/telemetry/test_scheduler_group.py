"""The scheduler's own group in the gateway: read from the record, bounded, and quiet."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from taskpilot.domain.fires import SchedulerState
from taskpilot.domain.ids import new_id
from taskpilot.domain.runs import Owner
from taskpilot.domain.times import boot_id, boot_time
from taskpilot.files import WaitBudget, file_lock
from taskpilot.store.database import Store
from taskpilot.store.schedulers import begin_scheduler, tick
from taskpilot.telemetry.gateway import Gateway
from tests.servers.bad_gateway import dead, hanging
from tests.servers.pushgateway import pushgateway
from tests.servers.recorded import finished_run
from tests.stopwatch import own_seconds

NOWHERE = "http://127.0.0.1:9"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_the_group_holds_the_last_tick_and_the_running_and_queued_runs(home: Path, store: Store, tmp_path: Path) -> None:
    finished_run(store, status="running")
    finished_run(store)
    with pushgateway(tmp_path) as gateway:
        assert Gateway(store, gateway.url, home).push_scheduler(seconds=10).delivered
        labels = {"job": "taskpilot", "deployment": store.deployment, "component": "scheduler"}
        # Where no server was ever started, there is no last tick to tell of.
        assert gateway.value("taskpilot_scheduler_last_tick_timestamp_seconds", **labels) is None
        with store.write() as connection:
            begin_scheduler(connection, new_id(), owner=Owner("h", boot_id(), 1, 1), version="0", now=NOON, boot=boot_time())
        assert Gateway(store, gateway.url, home).push_scheduler(seconds=10).delivered
        assert gateway.value("taskpilot_scheduler_last_tick_timestamp_seconds", **labels) == NOON.timestamp()
        assert gateway.value("taskpilot_scheduler_running_runs", **labels) == 1
        assert gateway.value("taskpilot_scheduler_queued_runs", **labels) == 0
        assert gateway.value("taskpilot_store_info", store_id=store.store_id, **labels) == 1
        assert gateway.value("taskpilot_build_info", **labels) == 1
        assert "job_name" not in gateway.metrics()


def test_the_last_scheduler_takes_the_group_along_when_it_ends_and_one_beside_another_leaves_it(
    home: Path, store: Store, tmp_path: Path
) -> None:
    scheduler_id = new_id()
    with store.write() as connection:
        begin_scheduler(connection, scheduler_id, owner=Owner("h", boot_id(), 1, 1), version="0", now=NOON, boot=boot_time())
    with pushgateway(tmp_path) as gateway:
        assert Gateway(store, gateway.url, home).push_scheduler(seconds=10).delivered
        Gateway(store, gateway.url, home, now=lambda: NOON).delete_scheduler(seconds=5)
        assert "taskpilot_scheduler_last_tick" in gateway.metrics()
        row = {"lag": timedelta(0), "jobs": 1, "broken": (), "error": None}
        with store.write() as connection:
            tick(connection, scheduler_id, now=NOON, boot=boot_time(), state=SchedulerState.STOPPED, **row)
        Gateway(store, gateway.url, home, now=lambda: NOON).delete_scheduler(seconds=5)
        assert gateway.forgets("taskpilot_scheduler_last_tick")


def test_a_gateway_that_is_dead_or_hangs_costs_its_bound_and_raises_nothing(home: Path, store: Store) -> None:
    with hanging() as server:
        started = own_seconds()
        result = Gateway(store, server.url, home).push_scheduler(seconds=0.3)
        assert own_seconds() - started < 3
        assert not result.delivered
    with dead() as server:
        result = Gateway(store, server.url, home).push_scheduler(seconds=1)
    assert not result.delivered
    assert result.error


def test_two_schedulers_take_turns(home: Path, store: Store) -> None:
    with file_lock(home / "locks" / "scheduler-group.lock", WaitBudget(1)) as got:
        assert got
        assert "lock" in str(Gateway(store, NOWHERE, home).push_scheduler(seconds=0.1).error)


def test_a_store_that_cannot_be_read_is_quiet_too(home: Path, store: Store) -> None:
    store.close()
    store.path.unlink()
    assert "gone" in str(Gateway(store, NOWHERE, home).push_scheduler(seconds=1).error)
