"""metrics.json: the last values, by run and in total."""

import json
import stat
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from taskpilot.files import WaitBudget, file_lock
from taskpilot.store.database import Store
from taskpilot.telemetry.metrics_file import write_metrics_file
from tests.servers.recorded import finished_run

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_it_holds_the_totals_and_the_last_run_exactly(store: Store, home: Path) -> None:
    finished_run(store, status="failed")
    last = finished_run(store, cost_nano=1_234_567_890_123)
    assert write_metrics_file(store, home, now=lambda: NOON)
    document = json.loads((home / "metrics.json").read_text(), parse_float=Decimal)
    assert document["updated_at"] == "2026-11-23T12:00:00+00:00"
    assert (document["deployment"], document["store_id"]) == ("testing", store.store_id)
    triage = document["jobs"]["triage"]
    assert triage["totals"]['taskpilot_runs_total{status="succeeded"}'] == 1
    assert triage["totals"]['taskpilot_llm_cost_usd_total{agent="planner",model="gpt-4o"}'] == Decimal("0.00404")
    assert triage["totals"]["taskpilot_run_duration_seconds_sum"] == 5
    run = triage["last_run"]
    assert (run["run_id"], run["status"]) == (last, "succeeded")
    assert run["cost_usd"] == Decimal("1234.567890123")
    assert run["tokens"] == {"input": 1200, "cached_input": 1024, "output": 30}
    assert run["duration_seconds"] == Decimal("2.5")


def test_an_unknown_cost_is_null(store: Store, home: Path) -> None:
    finished_run(store, unpriced_calls=1)
    write_metrics_file(store, home)
    assert json.loads((home / "metrics.json").read_text())["jobs"]["triage"]["last_run"]["cost_usd"] is None


def test_it_is_ours_alone_and_leaves_nothing_beside_it(store: Store, home: Path) -> None:
    finished_run(store)
    write_metrics_file(store, home)
    assert stat.S_IMODE((home / "metrics.json").stat().st_mode) == 0o600
    assert [path.name for path in home.iterdir() if "metrics.json" in path.name] == ["metrics.json"]


def test_what_cannot_be_written_leaves_the_old_file_and_is_only_false(store: Store, home: Path) -> None:
    finished_run(store)
    write_metrics_file(store, home)
    before = (home / "metrics.json").read_text()
    with file_lock(home / "locks" / "metrics-file.lock", WaitBudget(1)):
        assert not write_metrics_file(store, home, waits=WaitBudget(0.02))
    assert (home / "metrics.json").read_text() == before
    (home / "metrics.json").unlink()
    (home / "metrics.json").mkdir()
    assert not write_metrics_file(store, home)
    assert not list(home.glob(".metrics.json.*"))
