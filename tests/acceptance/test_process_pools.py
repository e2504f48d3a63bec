"""Processes that a job starts by itself can import its file, with every way of starting them."""

import pytest

from tests.command import TaskPilot

JOB = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from taskpilot import RunContext, job

from ._shared import DOUBLE


def double(number: int) -> int:
    return number * DOUBLE


@job()
def pools(ctx: RunContext) -> dict[str, list[int]]:
    found = {}
    for how in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(how)
        with ProcessPoolExecutor(1, mp_context=context) as executor, context.Pool(1) as pool:
            found[how] = [executor.submit(double, 2).result(), *pool.map(double, [3])]
    return found
"""


@pytest.mark.slow
def test_a_pool_calls_a_function_of_the_job_file_and_of_what_it_imports(taskpilot: TaskPilot) -> None:
    jobs = taskpilot.root / "jobs"
    jobs.mkdir(exist_ok=True)
    (jobs / "_shared.py").write_text("DOUBLE = 2\n")
    (jobs / "pools.py").write_text(JOB)
    said = taskpilot("run", "pools", "--json")
    assert (said.code, said.err) == (0, "")
    assert said.json["result"] == {how: [4, 6] for how in ("fork", "spawn", "forkserver")}
