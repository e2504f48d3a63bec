"""Run after run under one server: neither it nor its fork server grows."""

import os
import time
from functools import partial

import pytest

from tests.acceptance.serving.server import Server, serving, wait
from tests.command import TaskPilot

RUNS = int(os.environ.get("TASKPILOT_SOAK_RUNS", "60"))
"""How many; 10,000 is what issue 4 asks for."""
GROWTH_MIB = float(os.environ.get("TASKPILOT_SOAK_GROWTH_MIB", "4"))
"""In the second half, when all caches are full: what allocators may take more."""
JOBS = 6
"""Each due every second: more than two busy cores can start, so that the places are always taken and the queue grows."""

JOB = """
from taskpilot import RunContext, every, job


@job(schedule=every("1s"), overlap="allow_all")
def soak_NUMBER(ctx: RunContext) -> int:
    ctx.log.info("one more")
    return ctx.step("one", lambda: 1)
"""


def _ended(taskpilot: TaskPilot) -> int:
    [row] = taskpilot.rows("SELECT count(*) AS number FROM runs WHERE ended_at IS NOT NULL")
    return int(row["number"])


def _have_ended(taskpilot: TaskPilot, number: int) -> bool:
    return _ended(taskpilot) >= number


def _look(server: Server, at: int) -> tuple[float, float]:
    server_mib, fork_server_mib = server.rss()
    ended = _ended(server.taskpilot)
    print(f"{time.strftime('%H:%M:%S')} {ended} runs: server {server_mib:.1f} MiB, fork server {fork_server_mib:.1f} MiB")  # noqa: T201
    assert ended >= at
    return server_mib, fork_server_mib


@pytest.mark.timeout(600 + RUNS)
@pytest.mark.slow
def test_memory_is_flat_over_many_runs(taskpilot: TaskPilot) -> None:
    for number in range(JOBS):
        taskpilot.job(JOB.replace("NUMBER", str(number)), name=f"soak_{number}")
    with serving(taskpilot) as server:
        seen = []
        for part in range(1, 7):
            wanted = RUNS * part // 6
            wait(partial(_have_ended, taskpilot, wanted), server.said, seconds=300 + RUNS)
            seen.append(_look(server, wanted))
        assert server.stop() == 0
        assert server.marked() == []
    middle, last = seen[2], seen[-1]
    assert last[0] - middle[0] < GROWTH_MIB, seen
    assert last[1] - middle[1] < GROWTH_MIB, seen
    assert taskpilot.rows("SELECT 1 FROM runs WHERE status != 'succeeded'") == []
