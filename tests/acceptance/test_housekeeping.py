"""The built-in job that keeps the deployment in order: runs whose process is gone, and metrics that are still pending."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.kills.processes import children, eventually, send
from tests.acceptance.serving.server import serving
from tests.command import TaskPilot
from tests.servers.bad_gateway import dead
from tests.servers.pushgateway import Pushgateway, pushgateway

OWN: Final[tuple[list[str], ...]] = ([], ["housekeeping"])
"""What may be pending after it: its own end has half a second like any run's, which a busy machine may not give."""
JOB = '''
import time
from pathlib import Path

from taskpilot import {imports}RunContext, job


@job({options})
def {name}(ctx: RunContext, wait: bool = False) -> str:
    """Takes a step, and its first attempt waits where it is told to."""
    ctx.step("first", lambda: 1)
    (Path(__file__).parent.parent / "began").touch()
    while wait and ctx.attempt == 1:
        time.sleep(0.01)
    return "done"
'''


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushgateway]:
    with pushgateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def kept(taskpilot: TaskPilot) -> TaskPilot:
    """A root with the built-in job and two more: one has a second attempt."""
    del taskpilot.environment["TASKPILOT_HOUSEKEEPING"]
    taskpilot.job(JOB.format(name="once", imports="", options=""), name="once")
    taskpilot.job(JOB.format(name="twice", imports="Retry, ", options="retry=Retry(attempts=2)"), name="twice")
    return taskpilot


def pending(command: TaskPilot) -> list[str]:
    rows = command.rows("SELECT job FROM job_state WHERE version > pushed_version OR push_timed_out_at IS NOT NULL ORDER BY job")
    return [row["job"] for row in rows]


def orphan(command: TaskPilot, name: str, **environment: str) -> str:
    """Starts a run, kills its supervisor (its job dies with it) and gives the run's id; the record still says running."""
    (command.root / "began").unlink(missing_ok=True)
    with command.start("run", name, "-p", "wait=true", environment=environment) as process:
        try:
            assert eventually((command.root / "began").exists, seconds=30)
            jobs = children(process.pid)
        finally:
            send(process.pid, signal.SIGKILL)
            process.communicate(timeout=30)
    assert jobs
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in jobs), seconds=30)
    run = command.run()
    assert (run["job"], run["status"]) == (name, "running")
    return str(run["id"])


def standing(command: TaskPilot, run_id: str) -> tuple[str, str]:
    row = command.rows("SELECT status, reason_code FROM runs WHERE id = ?", run_id)[0]
    return row["status"], row["reason_code"]


def deployment(command: TaskPilot) -> str:
    return str(command.rows("SELECT deployment FROM store_info")[0]["deployment"])


def pushed(gateway: Pushgateway, command: TaskPilot, job: str, status: str) -> float | None:
    return gateway.value("taskpilot_runs_total", deployment=deployment(command), job_name=job, status=status)


def test_a_deployment_in_order_is_left_as_it_is(kept: TaskPilot) -> None:
    said = kept("run", "housekeeping", "--json")
    assert (said.code, said.err) == (0, "")
    metrics = "0 lost runs ended, 0 missed fires recorded, 0 pending metric groups delivered, 0 still pending"
    removed = "0 metric groups of gone jobs and 0 old runs removed"
    assert said.json["result"] == f"{metrics}, traces of 0 runs delivered, of 0 still pending, {removed}"
    assert said.json["llm_calls"] == 0


def test_lost_runs_are_ended_and_one_with_an_attempt_left_may_go_on(kept: TaskPilot, gateway: Pushgateway) -> None:
    kept.environment["TASKPILOT_PUSHGATEWAY_URL"] = gateway.url
    once, twice = orphan(kept, "once"), orphan(kept, "twice")
    assert kept("run", "housekeeping", "--json").json["result"].startswith("2 lost runs ended")
    assert standing(kept, once) == ("lost", "lease")
    assert standing(kept, twice) == ("queued", "lease")
    assert [row["status"] for row in kept.rows("SELECT status FROM attempts WHERE run_id IN (?, ?)", once, twice)] == ["lost", "lost"]
    for _ in range(20):  # half a second may be too short for all pushes on a busy machine
        assert kept("run", "housekeeping", "--json").json["result"].startswith("0 lost runs ended")
        if pending(kept) in OWN:
            break
    assert pushed(gateway, kept, "once", "lost") == 1
    assert pushed(gateway, kept, "twice", "lost") == 0
    assert pending(kept) in OWN
    assert kept("runs", "resume", twice).code == 0
    assert standing(kept, twice) == ("succeeded", "")


def test_a_run_that_lives_is_not_touched(kept: TaskPilot) -> None:
    with kept.start("run", "once", "-p", "wait=true") as process:
        try:
            assert eventually((kept.root / "began").exists, seconds=30)
            living = str(kept.run()["id"])
            assert kept("run", "housekeeping", "--json").json["result"].startswith("0 lost runs ended")
            assert standing(kept, living) == ("running", "")
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == 143


def test_pending_metrics_of_every_job_are_delivered(kept: TaskPilot, gateway: Pushgateway) -> None:
    with dead() as server:
        for name in ("once", "twice"):
            assert kept("run", name, "--quiet", environment={"TASKPILOT_PUSHGATEWAY_URL": server.url}).code == 0
    assert pending(kept) == ["once", "twice"]
    # A run has half a second for all groups; on a busy machine another run delivers the rest.
    for _ in range(20):
        said = kept("run", "housekeeping", "--json", environment={"TASKPILOT_PUSHGATEWAY_URL": gateway.url})
        assert said.json["result"].startswith("0 lost runs ended, ")
        assert "traces of 0 runs delivered, of 0 still pending, " in said.json["result"]
        if pending(kept) in OWN:
            break
    assert pushed(gateway, kept, "once", "succeeded") == pushed(gateway, kept, "twice", "succeeded") == 1
    assert pending(kept) in OWN


def test_a_gateway_that_is_still_dead_fails_nothing_and_leaves_it_pending(kept: TaskPilot) -> None:
    with dead() as server:
        kept.environment["TASKPILOT_PUSHGATEWAY_URL"] = server.url
        assert kept("run", "once", "--quiet").code == 0
        said = kept("run", "housekeeping", "--json")
    assert (said.code, said.err) == (0, "")
    assert said.json["result"].startswith("0 lost runs ended, 0 missed fires recorded, 0 pending metric groups delivered, ")
    assert pending(kept) == ["housekeeping", "once"]


def test_the_spans_of_a_run_whose_supervisor_was_killed_are_written(kept: TaskPilot) -> None:
    once = orphan(kept, "once")
    assert not (kept.state_dir / "traces.jsonl").exists()
    assert kept("run", "housekeeping", "--quiet").code == 0
    assert once in (kept.state_dir / "traces.jsonl").read_text()


def test_a_nightly_fire_that_nobody_claimed_is_missed_counted_and_explained(kept: TaskPilot) -> None:
    """An installation by cron alone: nothing but housekeeping and `why` looks at the night that the machine was off."""
    kept.job(JOB.format(name="nightly", imports="cron, ", options='schedule=cron("0 3 * * *")'), name="nightly")
    assert kept("run", "housekeeping", "--json").json["result"].startswith("0 lost runs ended, 0 missed fires recorded")
    three_days_micros = 3 * 86_400 * 1_000_000
    with closing(sqlite3.connect(kept.state_dir / "taskpilot.db")) as connection, connection:
        moved = "UPDATE schedules SET since = since - ?, cursor = cursor - ? WHERE job = 'nightly'"
        connection.execute(moved, (three_days_micros, three_days_micros))
    before = kept("health", "--json")
    assert (before.code, before.json["status"], before.json["scheduler"]["state"]) == (1, "warn", "absent")
    assert "nightly missed " in before.json["findings"][0]["text"]
    result = kept("run", "housekeeping", "--json").json["result"]
    fires = [row for row in kept.rows("SELECT * FROM fires WHERE job = 'nightly'") if row["outcome"] == "missed"]
    assert len(fires) in {2, 3}
    assert f"{len(fires)} missed fires recorded" in result
    assert kept.rows("SELECT value FROM totals WHERE job = 'nightly' AND labels = '{\"outcome\":\"missed\"}'") == [{"value": len(fires)}]
    assert (
        f'taskpilot_fires_total{{deployment="{deployment(kept)}",job_name="nightly",outcome="missed"}} {len(fires)}.0'
        in kept("metrics", "show").out
    )
    said = kept("why", "nightly", "--at", datetime.fromtimestamp(fires[-1]["scheduled_for"] / 1e6, UTC).isoformat())
    assert said.code == 0
    assert said.out.splitlines()[0].endswith("03:00 (UTC): no scheduler was running, and no command started it.")
    assert "outcome  missed" in said.out
    assert f"{len(fires)} in all" in kept("health", "--json").json["findings"][0]["text"]


def test_old_runs_and_the_metrics_of_a_removed_job_go_unless_history_is_kept(kept: TaskPilot, gateway: Pushgateway) -> None:
    kept.environment["TASKPILOT_PUSHGATEWAY_URL"] = gateway.url
    for name in ("once", "once", "twice"):
        assert kept("run", name, "--quiet").code == 0
    first = kept.rows("SELECT id FROM runs WHERE job = 'once' ORDER BY id")[0]["id"]
    year_micros = 365 * 86_400 * 1_000_000
    with closing(sqlite3.connect(kept.state_dir / "taskpilot.db")) as connection, connection:
        connection.execute("UPDATE runs SET ended_at = ended_at - ?", (year_micros,))
    (kept.root / "jobs" / "twice.py").unlink()
    counted = kept("metrics", "show").out
    for days, removed in (("off", 0), ("400", 0), ("90", 1)):
        said = kept("run", "housekeeping", "--json", environment={"TASKPILOT_HISTORY_DAYS": days})
        assert said.json["result"].endswith(f"and {removed} old runs removed"), said.json
    assert (kept.state_dir / "runs" / first).exists() is False
    assert [row["id"] for row in kept.rows("SELECT id FROM runs WHERE job = 'once'")] != [first]
    assert len(kept.rows("SELECT id FROM runs WHERE job IN ('once', 'twice')")) == 2
    assert pushed(gateway, kept, "twice", "succeeded") is None
    assert pushed(gateway, kept, "once", "succeeded") == 2
    again = kept("metrics", "show").out
    runs_of_once = [line for line in counted.splitlines() if 'job_name="once"' in line and "_total" in line]
    assert [line for line in runs_of_once if line not in again.splitlines()] == []
    said = kept("db", "prune", "--older-than", "1d", "--dry-run")
    assert (said.code, said.out.splitlines()[0]) == (
        0,
        "would delete 0 runs and at most 0 records of scheduled times; kept 2 old runs that are still needed",
    )
    assert kept("db", "prune", "--older-than", "soon").code == kept("db", "prune", "--older-than", "1h").code == 2
    assert kept("run", "housekeeping", environment={"TASKPILOT_HISTORY_DAYS": "0"}).code == 78


def test_a_server_runs_it_by_itself_and_the_lists_have_it(kept: TaskPilot) -> None:
    assert [one["job"] for one in kept("jobs", "--json").json] == ["housekeeping", "once", "twice"]
    assert kept("jobs", "show", "housekeeping", "--json").json["schedule"] == "every 15m"
    assert "taskpilot --root" in (lines := kept("export", "crontab").out)
    assert "run housekeeping" in lines
    kept.environment["TASKPILOT_HOUSEKEEPING"] = "1s"
    with serving(kept):
        assert eventually(lambda: kept.rows("SELECT id FROM runs WHERE job = 'housekeeping' AND status = 'succeeded'"), seconds=60)
