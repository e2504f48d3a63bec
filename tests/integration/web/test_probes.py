"""What monitors ask: alive, ready, healthy, and the numbers."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskpilot.domain.fires import SchedulerState
from taskpilot.web.probes import LIVE_SECONDS, READY_SECONDS
from tests.integration.web.serving import Served, awake, make_root, serving
from tests.records import add_run, add_task, newest_first

SOON: Final = 60.0
HANGS: Final = 30.0


def families(text: str) -> dict[str, list[str]]:
    """The metric families of a scrape, each once, with their label sets."""
    found: dict[str, list[str]] = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in found, f"{family.name} stands twice"
        found[family.name] = [str(sample.labels) for sample in family.samples]
    return found


def becomes(served: Served, status: int) -> str:
    """The reason that /readyz gives, once it has this status."""
    give_up = time.monotonic() + SOON
    while (reply := served.get("/readyz")).status != status:
        assert time.monotonic() < give_up, reply.body
        time.sleep(0.05)
    return str(reply.json()["reason"])


def test_a_loop_that_comes_round_is_alive(served: Served) -> None:
    assert served.get("/livez").json() == {"alive": True, "seconds_since_tick": 0.0}
    served.stage.silent = LIVE_SECONDS + 1
    hanging = served.get("/livez")
    assert hanging.status == 503
    assert hanging.json()["alive"] is False


@pytest.mark.parametrize("state", [SchedulerState.STARTING, SchedulerState.DRAINING, SchedulerState.STOPPED])
def test_a_scheduler_that_starts_nothing_is_alive_and_not_ready(served: Served, state: SchedulerState) -> None:
    becomes(served, 200)
    assert served.get("/readyz").json() == {"ready": True, "reason": None}
    served.stage.state = state
    assert served.get("/livez").status == 200
    assert served.get("/readyz").json() == {"ready": False, "reason": f"the scheduler is {state.value}"}


def test_a_loop_that_missed_two_wake_ups_is_not_ready(served: Served) -> None:
    served.stage.silent = READY_SECONDS + 1
    assert "31 s" in becomes(served, 503)
    assert served.get("/livez").status == 200
    served.stage.silent = 0
    becomes(served, 200)


def test_a_store_that_is_locked_is_not_ready_and_heals(served: Served) -> None:
    becomes(served, 200)
    with closing(sqlite3.connect(served.deployment.store.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "locked by another process" in becomes(served, 503)
        assert served.get("/livez").status == 200
        # A lock on writing is no reason not to tell what is recorded.
        assert served.get("/health").status == 200
    becomes(served, 200)


def test_a_store_that_is_gone_is_not_ready_and_heals(served: Served) -> None:
    path = served.deployment.store.path
    becomes(served, 200)
    away = path.with_name("away.db")
    path.rename(away)
    assert "the file is gone" in becomes(served, 503)
    assert served.get("/livez").status == 200
    assert served.get("/health").status == 503
    away.rename(path)
    becomes(served, 200)
    assert served.get("/health").status == 200


def test_a_store_that_was_restored_from_a_copy_is_read_and_written_again(served: Served) -> None:
    store = served.deployment.store
    kept = add_run(store)
    with closing(sqlite3.connect(store.path)) as source, closing(sqlite3.connect(store.path.with_name("copy.db"))) as copy:
        source.backup(copy)
    lost = add_run(store)
    for companion in ("", "-wal", "-shm"):
        store.path.with_name(store.path.name + companion).unlink(missing_ok=True)
    assert "gone" in becomes(served, 503)
    store.path.with_name("copy.db").rename(store.path)
    becomes(served, 200)
    newer = add_run(store)
    seen = [run["run_id"] for run in served.get("/api/v1/runs").json()["items"]]
    assert seen == newest_first([newer, kept])
    assert lost not in seen


def test_another_store_in_the_place_of_ours_is_not_ready(served: Served, tmp_path: Path) -> None:
    path = served.deployment.store.path
    with serving(make_root(tmp_path / "other")) as other:
        other.deployment.store.close()
        for companion in ("-wal", "-shm"):
            path.with_name(path.name + companion).unlink(missing_ok=True)
        other.deployment.store.path.rename(path)
        assert "another store" in becomes(served, 503)


def test_a_store_that_cannot_be_written_is_not_ready(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights and mounts do not bind uid 0, which tests run as; SQLite is told to open the file read-only instead."""
    becomes(served, 200)
    path = served.deployment.store.path
    with monkeypatch.context() as patched:
        read_only = f"file:{path}?mode=ro"
        patched.setattr(
            "taskpilot.store.probe.connect", lambda _path, busy: sqlite3.connect(read_only, uri=True, timeout=busy, check_same_thread=False)
        )
        assert "readonly" in becomes(served, 503)
    becomes(served, 200)


def test_a_disk_that_hangs_is_answered_for_in_bounded_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    over = Event()
    monkeypatch.setattr("taskpilot.web.probes._WAIT_SECONDS", 0.2)
    with monkeypatch.context() as patched:
        patched.setattr("taskpilot.web.probes.probe", lambda _store, busy_seconds: over.wait(HANGS))
        time.sleep(1.0)  # An answer of before holds for a second.
        started = time.monotonic()
        assert "did not answer" in served.get("/readyz").json()["reason"]
        assert "did not answer" in served.get("/readyz").json()["reason"]
        assert served.get("/livez").status == 200
        assert time.monotonic() - started < HANGS / 2
        over.set()
    becomes(served, 200)


def test_health_has_the_contract_s_shape(served: Served) -> None:
    awake(served.deployment)
    found = served.get("/health")
    assert found.status == 200
    value = found.json()
    assert {"status", "version", "scheduler", "checks"} <= set(value)
    assert set(value["scheduler"]) == {"state", "jobs", "paused", "running", "queued", "last_tick", "lag_seconds", "next_fire", "restart"}
    assert set(value["checks"]) == {"store", "gateway", "collector", "model"}
    head = served.ask("HEAD", "/health")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(found.body)))


def test_golden_signals_claim_nothing_where_nothing_ran(served: Served) -> None:
    value = served.get("/golden-signals").json()
    assert set(value) == {"success_rate", "p95_duration", "cost_per_success", "policy_violation_rate", "confirmed_correctness"}
    assert {(one["value"], one["verdict"]) for one in value.values()} == {(None, "no data")}
    assert served.get("/golden-signals?days=0").status == 422


def test_without_a_gateway_a_scrape_gets_everything(served: Served) -> None:
    awake(served.deployment)
    found = served.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    names = families(found.body.decode())
    assert {"taskpilot_runs", "taskpilot_store_info", "taskpilot_build_info", "taskpilot_scheduler_last_tick_timestamp_seconds"} <= set(
        names
    )
    assert {"taskpilot_scheduler_running_runs", "taskpilot_scheduler_queued_runs", "process_resident_memory_bytes"} <= set(names)
    few = families(served.get("/metrics?collect[]=scheduler").body.decode())
    assert "taskpilot_runs" not in few


def test_with_a_gateway_a_scrape_counts_nothing_twice(tmp_path: Path) -> None:
    root = make_root(tmp_path, 'pushgateway_url = "http://127.0.0.1:9"\n')
    with serving(root) as pushing:
        few = families(pushing.get("/metrics").body.decode())
        ours = {name for name in few if name.startswith("taskpilot_")}
        # No server was ever started: the last tick is absent, not zero.
        assert ours == {
            "taskpilot_scheduler_running_runs",
            "taskpilot_scheduler_queued_runs",
            "taskpilot_store_info",
            "taskpilot_build_info",
        }
        assert "process_cpu_seconds" in few
        everything = families(pushing.get("/metrics?collect%5B%5D=all").body.decode())
        assert "taskpilot_runs" in everything
        assert pushing.get("/metrics?collect[]=nonsense").status == 422


def test_a_folder_of_jobs_that_cannot_be_read_hides_no_number(served: Served) -> None:
    add_task(served.deployment.store, add_run(served.deployment.store))
    served.deployment.settings.jobs_dir.chmod(0o777)
    served.deployment.__dict__.pop("catalog", None)
    assert served.get("/api/v1/jobs").status == 409
    assert "taskpilot_tasks" in families(served.get("/metrics").body.decode())
    assert served.get("/health").json()["broken"]
    assert b"triage" in served.get("/", Accept="text/html").body
