"""What a job finds of the server's secrets in its environment, and in what the kernel shows of its own and its parents' environments."""

import pytest

from tests.command import TaskPilot

TOKEN = "canary-token-0c3e8d6f"
JOB = """
import os
from pathlib import Path

from taskpilot import RunContext, job


@job()
def looks(ctx: RunContext) -> dict[str, list[str]]:
    \"\"\"Look for secrets in the environments of this process and all above it.\"\"\"
    found = {"here": sorted(name for name, value in os.environ.items() if "canary" in value), "blocks": []}
    for pid in (os.getpid(), os.getppid()):
        block = Path(f"/proc/{pid}/environ").read_bytes()
        found["blocks"] += [entry.decode() for entry in block.split(b"\\0") if b"canary" in entry]
    return found
"""


@pytest.mark.slow
def test_no_process_of_taskpilot_shows_the_servers_secrets_to_a_job(taskpilot: TaskPilot) -> None:
    taskpilot.settings('[notify.channels.ops]\nurl = "https://example.invalid/${HOOK}"\n')
    taskpilot.environment |= {"TASKPILOT_API_TOKEN": TOKEN, "HOOK": "canary-hook", "OTHER": "canary-is-the-jobs"}
    taskpilot.job(JOB)
    said = taskpilot("run", "looks", "--json")
    assert said.code == 0, said.err
    assert said.json["result"] == {"here": ["OTHER"], "blocks": ["OTHER=canary-is-the-jobs"] * 2}
