"""What a job finds of the server's secrets in its environment, and in what the kernel shows of its own and its parents' environments."""

import ast

import pytest

from tests.command import TaskPilot

TOKEN = "canary-token-0c3e8d6f"
JOB = """
import os
from pathlib import Path

from taskpilot import RunContext, job


def look() -> dict[str, list[str]]:
    found = {"here": sorted(name for name, value in os.environ.items() if "canary" in value), "blocks": []}
    for pid in PIDS:
        block = Path(f"/proc/{pid}/environ").read_bytes()
        found["blocks"] += [entry.decode() for entry in block.split(b"\\0") if b"canary" in entry]
    return found


PIDS = [os.getpid(), os.getppid()]
loaded = look()


@job()
def looks(ctx: RunContext, at_load: str = str(loaded)) -> dict[str, list[str]]:
    \"\"\"Look for secrets in the environments of this process and the one above it.\"\"\"
    return look()
"""


@pytest.mark.slow
def test_no_process_of_taskpilot_shows_the_servers_secrets_to_a_job(taskpilot: TaskPilot) -> None:
    # What /proc shows is what the process was started with.
    taskpilot.cold = True
    taskpilot.settings('[notify.channels.ops]\nurl = "https://example.invalid/${HOOK}"\n')
    taskpilot.environment |= {"TASKPILOT_API_TOKEN": TOKEN, "HOOK": "canary-hook", "OTHER": "canary-is-the-jobs"}
    taskpilot.job(JOB)
    said = taskpilot("run", "looks", "--json")
    assert said.code == 0, said.err
    seen = {"here": ["OTHER"], "blocks": ["OTHER=canary-is-the-jobs"] * 2}
    assert said.json["result"] == seen
    shown = taskpilot("jobs", "show", "looks", "--json")
    assert ast.literal_eval(ast.literal_eval(shown.json["parameters"][0]["default"])) == seen, "when the file is loaded"
