"""The wall clock is set under a running server: no run is lost, no job dies, and health reports it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.serving.server import serving, wait
from tests.command import TaskPilot

HOUR, DAY = 3_600, 86_400
STEPS = (HOUR, 0, -HOUR, 0, 400 * DAY, 0, -400 * DAY, 0)
"""The seconds between the clock and the right time, one after another."""

JOBS = """
import time
from pathlib import Path

from taskpilot import RunContext, every, job

@job(schedule=every("2s"), overlap="allow_all")
def ticks(ctx: RunContext) -> None: ...

@job(schedule=None, deadline="10m")
def lasts(ctx: RunContext) -> None:
    for n in range(1000):
        ctx.step("look", int, n)
        if Path("stop").exists():
            return
        time.sleep(0.2)
"""


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for the shim of the clock")
def test_steps_of_an_hour_and_of_400_days_lose_no_run_and_no_job(taskpilot: TaskPilot, tmp_path: Path) -> None:
    shim, shift = tmp_path / "shift.so", tmp_path / "shift"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, Path(__file__).with_name("shift.c")], check=True)
    shift.write_text("0")
    taskpilot.job(JOBS)
    environment = {"LD_PRELOAD": str(shim), "SHIFT_FILE": str(shift), "TASKPILOT_LEASE_SECONDS": "30", "TASKPILOT_HOUSEKEEPING": "off"}
    taskpilot.environment |= environment

    def started() -> int:
        return int(taskpilot.rows("SELECT count(*) AS n FROM runs WHERE job = 'ticks' AND status = 'succeeded'")[0]["n"])

    def noticed() -> int:
        kinds = [row["kind"] for row in taskpilot.rows("SELECT kind FROM clock_events")]
        return kinds.count("forward") + kinds.count("backward")

    with serving(taskpilot) as server:
        long = subprocess.Popen(taskpilot.line("run", "lasts", "--quiet"), cwd=taskpilot.root, env={**os.environ, **taskpilot.environment})
        wait(lambda: bool(taskpilot.rows("SELECT 1 FROM steps")), server.said)
        for number, step in enumerate(STEPS, start=1):
            shift.write_text(str(step))
            wait(lambda number=number: noticed() == number, server.said)  # type: ignore[misc]
            before = started()
            wait(lambda before=before: started() >= before + 3, server.said)  # type: ignore[misc]
        events = [row["kind"] for row in taskpilot.rows("SELECT kind FROM clock_events ORDER BY rowid")]
        assert events.count("forward") == 4, events
        assert events.count("backward") == 4, events
        assert events.count("cursor") == 4, events
        health = json.loads(taskpilot("health", "--json").out)
        assert "the clock was set back from" in json.dumps(health["findings"])
        assert "the clock was set back from" in taskpilot("why", "ticks").out
        (taskpilot.root / "stop").touch()
        assert long.wait(60) == 0, server.said()
    statuses = {row["status"] for row in taskpilot.rows("SELECT status FROM runs")}
    assert statuses <= {"succeeded", "running", "queued"}, statuses
    assert [row["attempts"] for row in taskpilot.rows("SELECT attempts FROM runs WHERE job = 'lasts'")] == [1]
