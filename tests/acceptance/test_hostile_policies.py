"""Policies that never end or end their process: 78 with file and line, and a recorded denial where a run dies in one."""

from tests.command import TaskPilot
from tests.hostile_files import POLICIES

DIES = """
import os, signal
from taskpilot import RunContext, job, tool
from taskpilot.policy import engines

@tool
def effect(what: str) -> str:
    "Do something."
    raise AssertionError("it was done")

@job(tools=[effect])
def dies(ctx: RunContext) -> None:
    "Die while the policy decides."
    # As an engine that overflows its stack.
    engines.ask = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)
    ctx.call(effect, what="this")
"""


def test_a_run_that_dies_in_the_policy_leaves_a_recorded_denial(taskpilot: TaskPilot) -> None:
    (taskpilot.root / "jobs" / "dies.py").write_text(DIES)
    said = taskpilot("run", "dies", "--json")
    assert said.json["status"] == "lost", said.out + said.err
    [decision] = taskpilot("decisions", "list", "--json").json
    assert (decision["tool"], decision["verdict"], decision["run_id"]) == ("effect", "deny", said.json["run_id"])
    assert "the process ended while the policy decided" in str(taskpilot("decisions", "show", decision["decision_id"], "--json").json)


def test_a_recursive_policy_is_78_by_file_and_line_for_every_command_and_no_run_starts(taskpilot: TaskPilot) -> None:
    (taskpilot.root / "ours.rego").write_text(POLICIES["recursive_function"])
    (taskpilot.root / "taskpilot.toml").write_text('[policy]\nfiles = ["ours.rego"]\n')
    (taskpilot.root / "jobs" / "dies.py").write_text(DIES)
    for arguments in (("policy", "check"), ("run", "dies"), ("jobs", "validate")):
        said = taskpilot(*arguments)
        assert said.code == 78, said.err
        assert "ours.rego:2: f uses itself" in said.out + said.err
    assert taskpilot("runs", "list", "--json").json == []
