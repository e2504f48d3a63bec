"""Totals of script-mode runs alone, no server anywhere: exact in Prometheus, whatever happens to the gateway."""

import math
import os
import time
from pathlib import Path

import pytest

from tests.integration.stack.night import all_delivered, command_in
from tests.servers.prometheus import prometheus
from tests.servers.pushgateway import pushgateway

pytestmark = pytest.mark.slow

RUNS = int(os.environ.get("TASKPILOT_RUNS", "5"))
"""Runs, each in a process of its own. TASKPILOT_RUNS=100 is what the stack is held to; CI has less time."""


def window(name: str, seconds: int) -> str:
    """What came in a window, as shipped panels read it."""
    return f"{name} - ({name} offset {seconds}s or {name} * 0)"


@pytest.mark.timeout(120 + 10 * RUNS)
def test_totals_are_exact_over_runs_that_are_long_gone(tmp_path: Path) -> None:
    with pushgateway(tmp_path) as gateway, prometheus(tmp_path, [f"127.0.0.1:{gateway.port}"]) as scraper:
        command = command_in(tmp_path, gateway.url)
        began = time.time()
        calls = failed = 0
        for number in range(RUNS):
            fails = number % 4 == 3
            # A label set that is born inside the window: nobody knew of a poet before.
            more = ["-p", f"fail={str(fails).lower()}", "-p", f"poet={str(number == RUNS - 1).lower()}"]
            said = command("run", "nightly", "--json", *more)
            assert said.code == int(fails), said
            failed += fails
            calls += said.json["llm_calls"]
        all_delivered(command)
        scraper.until('sum(taskpilot_runs_total{status=~"succeeded|failed"})', lambda value: value == RUNS)
        seconds = math.ceil(time.time() - began) + 1
        assert scraper.value(f"sum({window('taskpilot_attempts_total', seconds)})") == RUNS
        assert scraper.value(f"sum({window('taskpilot_runs_total', seconds)})") == RUNS
        assert scraper.value(f'sum({window("taskpilot_runs_total", seconds)} and taskpilot_runs_total{{status="failed"}})') == failed
        assert scraper.value(f"sum({window('taskpilot_llm_calls_total', seconds)})") == calls
        assert scraper.value(f"sum({window('taskpilot_run_duration_seconds_count', seconds)})") == RUNS
        # Executed once a run; one of the poet's, in a series that came with it.
        assert scraper.value(f'sum({window("taskpilot_tasks_total", seconds)} and taskpilot_tasks_total{{status="executed"}})') == RUNS
        poet = 'taskpilot_agent_invocations_total{agent="poet", status="succeeded"}'
        assert scraper.value(f"{poet} offset {seconds}s") is None
        assert scraper.value(window(poet, seconds)) == 1


def test_a_restart_of_the_gateway_loses_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "gateway.state"
    with pushgateway(tmp_path, persistence=kept) as gateway:
        command = command_in(tmp_path, gateway.url)
        command.job("from taskpilot import job\n\n\n@job(model='offline')\ndef monthly(ctx):\n    return 1\n", name="monthly")
        for job in ("monthly", "nightly"):
            assert command("run", job, "--quiet").code == 0
        all_delivered(command)
        assert gateway.value("taskpilot_runs_total", job_name="nightly", status="succeeded") == 1
    # Nobody listens, and the night's run succeeds all the same.
    assert command("run", "nightly", "--quiet").code == 0
    with pushgateway(tmp_path, port=gateway.port, persistence=kept) as again:
        # What no run pushes for a month is there at once.
        assert again.value("taskpilot_runs_total", job_name="monthly", status="succeeded") == 1
        assert again.value("taskpilot_runs_total", job_name="nightly", status="succeeded") == 1
        # The next run, of whatever job, brings along what is pending.
        assert command("run", "monthly", "--quiet").code == 0
        all_delivered(command)
        assert again.value("taskpilot_runs_total", job_name="monthly", status="succeeded") == 2
        assert again.value("taskpilot_runs_total", job_name="nightly", status="succeeded") == 2
        assert again.value("taskpilot_telemetry_failures_total", job_name="nightly", sink="gateway") > 0


def test_the_group_of_a_removed_job_goes_and_with_it_its_alerts(tmp_path: Path) -> None:
    with pushgateway(tmp_path) as gateway:
        command = command_in(tmp_path, gateway.url)
        del command.environment["TASKPILOT_HOUSEKEEPING"]
        for job in ("nightly", "housekeeping"):
            assert command("run", job, "--quiet").code == 0
        all_delivered(command)
        assert gateway.value("taskpilot_run_last_success_timestamp_seconds", job_name="nightly") is not None
        (command.root / "jobs" / "nightly.py").unlink()
        assert command("run", "housekeeping", "--quiet").code == 0
        all_delivered(command)
        assert gateway.forgets('job_name="nightly"')
        assert gateway.value("taskpilot_runs_total", job_name="housekeeping", status="succeeded") == 2
