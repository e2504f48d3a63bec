"""Two Rego engines, one answer: regopy judges the default policy as regorus does.

On input that regopy reads and writes rightly: it breaks at a backslash.
"""

import importlib
import json
from importlib.resources import files
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from taskpilot.domain.decisions import PolicyInput, Verdict
from taskpilot.policy import RegoPolicy, guards
from taskpilot.policy.check import FIXTURES

TEXT = st.text(
    alphabet=st.characters(codec="ascii", categories=("L", "N", "P", "Zs"), exclude_characters='\\"'), max_size=30
) | st.sampled_from(["sensitive", "Sensitive data", "please DELETE", "delete_task", "x" * 500, "x" * 501, "  ", "high", "ops"])
VALUE = TEXT | st.integers(-1000, 1000) | st.booleans() | st.none() | st.lists(TEXT, max_size=2)
MESSAGES = st.sampled_from(["please DELETE it", "delete", "undelete", "a-delete-b", "done"])
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "title": VALUE,
        "priority": st.sampled_from(["high", "medium", "low"]) | VALUE,
        "channel": VALUE,
        "message": VALUE | MESSAGES,
    },
)
TOOLS = st.sampled_from(["create_task", "notify", "delete_task", "open_ticket", "other"])


def second_opinion() -> Any:
    regopy: Any = importlib.import_module("regopy")
    interpreter = regopy.Interpreter()
    interpreter.add_module("default", files("taskpilot.policy").joinpath("default.rego").read_text("utf-8"))
    return interpreter


ORACLE = second_opinion()


def judge(question: PolicyInput) -> Verdict:
    ORACLE.set_input(json.loads(json.dumps(guards.document(question))))
    said = json.loads(str(ORACLE.query("data.taskpilot.tools")))["expressions"][0]
    if said.get("deny"):
        return Verdict.DENY
    if said.get("require_approval"):
        return Verdict.REQUIRE_APPROVAL
    return Verdict.ALLOW if said.get("allow") is True else Verdict.DENY


@settings(max_examples=150, deadline=None)
@given(
    tool=TOOLS,
    arguments=ARGUMENTS,
    agent=st.sampled_from(["executor", "planner", "reviewer", "executor", "job", "helper"]),
    job_tools=st.lists(TOOLS, max_size=2),
)
def test_both_engines_agree(tool: str, arguments: dict[str, Any], agent: str, job_tools: list[str]) -> None:
    question = PolicyInput(tool, arguments, agent, "triage", "r1", tuple(job_tools))
    assert RegoPolicy().decide(question).verdict is judge(question)


def test_both_engines_agree_on_the_shipped_fixtures() -> None:
    for fixture in FIXTURES[:-2]:  # The last two, a NUL and 2^70, are what regopy gets wrong and the guards refuse.
        assert judge(fixture.question) is fixture.expected, fixture.name
