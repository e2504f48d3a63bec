"""Input that no engine may see is a denial, whatever the policy would say."""

import json
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskpilot.domain.decisions import PolicyInput, PolicyResult, Verdict
from taskpilot.policy import RegoPolicy
from taskpilot.policy.guards import fold

ALLOW_ALL = "package taskpilot.tools\nallow := true\n"


class Text(str):
    __slots__ = ()


class Tree(dict[str, Any]):
    pass


@pytest.fixture(name="allow_all", scope="module")
def make_allow_all(tmp_path_factory: pytest.TempPathFactory) -> RegoPolicy:
    file = tmp_path_factory.mktemp("policy") / "all.rego"
    file.write_text(ALLOW_ALL)
    return RegoPolicy(files=[file], default=False)


def ask(policy: RegoPolicy, arguments: Any, **more: Any) -> PolicyResult:
    fields = {"tool": "anything", "agent": "executor", "job": "triage", "run_id": "r1", "job_tools": ()} | more
    return policy.decide(PolicyInput(arguments=arguments, **fields))


def nest(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "arguments",
    [
        {"a": "read\0; rm -rf"},
        {"a\0b": 1},
        {"a": 2**70},
        {"a": 2**63},
        {"a": -(2**63) - 1},
        {"a": math.nan},
        {"a": [math.inf]},
        {"a": {"b": -math.inf}},
        {"a": "\ud800"},
        {"\udfff": 1},
        {1: "a"},
        {None: "a"},
        {"a": b"x"},
        {"a": ("x",)},
        {"a": {"x"}},
        {"a": Text("x")},
        {"a": object()},
        Tree(a=1),
        {"a": Tree(a=1)},
        {"a": "x" * 70_000},
        {"a": "é" * 40_000},
        {"a": "\n" * 40_000},
        {"a": [0] * 70_000},
        {"x" * 70_000: 1},
        {"a": nest(15)},
        {"a": nest(100_000)},
        {"a": LOOP},
        [],
        None,
        "{}",
        7,
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_input_that_is_not_plain_small_json_is_denied_before_the_policy(allow_all: RegoPolicy, arguments: Any) -> None:
    result = ask(allow_all, arguments)
    assert (result.verdict, result.path, result.error) == (Verdict.DENY, "taskpilot/guards", None)
    assert len(result.reasons) == 1


@pytest.mark.parametrize(
    "arguments", [{}, {"a": 2**63 - 1, "b": -(2**63)}, {"a": nest(14)}, {"a": "x" * 65_000}, {"a": "é😀\u202e\n", "": None}, {"a": 1e308}]
)
def test_input_at_the_limits_reaches_the_policy(allow_all: RegoPolicy, arguments: dict[str, Any]) -> None:
    assert ask(allow_all, arguments).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    "fields",
    [
        {"tool": ""},
        {"tool": "a b"},
        {"tool": "a\0"},
        {"tool": "a\n"},
        {"tool": "x" * 129},
        {"tool": None},
        {"agent": ""},
        {"agent": "a\0"},
        {"agent": None},
        {"agent": "\ud800"},
        {"job": "x" * 201},
        {"run_id": 7},
        {"job_tools": "open_ticket"},
        {"job_tools": ("a", None)},
        {"job_tools": ("a\0",)},
        {"job_tools": ("a",) * 1_001},
    ],
    ids=str,
)
def test_names_that_are_no_names_are_denied(allow_all: RegoPolicy, fields: dict[str, Any]) -> None:
    result = ask(allow_all, {}, **fields)
    assert (result.verdict, result.path) == (Verdict.DENY, "taskpilot/guards")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4) | st.tuples(inner),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(tool=ANYTHING, arguments=ANYTHING, agent=ANYTHING, job=ANYTHING, job_tools=ANYTHING)
def test_whatever_the_input_an_unknown_tool_is_denied_and_nothing_raises(
    tool: Any, arguments: Any, agent: Any, job: Any, job_tools: Any
) -> None:
    result = RegoPolicy().decide(PolicyInput(tool=tool, arguments=arguments, agent=agent, job=job, run_id="r1", job_tools=job_tools))
    listed = isinstance(job_tools, (list, tuple)) and tool in job_tools
    assert listed or result.verdict is Verdict.DENY


@settings(max_examples=300, deadline=None)
@given(title=ANYTHING, priority=st.sampled_from(["high", "medium", "low"]) | ANYTHING, more=ANYTHING)
def test_an_allowed_task_always_has_a_valid_title_and_priority(title: Any, priority: Any, more: Any) -> None:
    arguments = {"title": title, "priority": priority, "more": more}
    result = RegoPolicy().decide(
        PolicyInput(tool="create_task", arguments=arguments, agent="executor", job="triage", run_id="r1", job_tools=())
    )
    if result.verdict is not Verdict.DENY:
        assert isinstance(title, str)
        assert 1 <= len(title.strip()) <= 500
        assert priority in {"high", "medium", "low"}
        json.dumps(arguments, allow_nan=False).encode()


@given(text=st.text())
def test_folding_hides_no_letter_and_is_stable(text: str) -> None:
    folded = fold(text)
    assert fold(folded) == folded
    assert "delete" in fold(f"{text} DELETE")


IGNORABLE = [
    0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010), *range(0x202A, 0x202F),
    *range(0x2060, 0x2070), 0x3164, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0, *range(0xFFF0, 0xFFF9), *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000),
]  # fmt: skip
"""Unicode's Default_Ignorable_Code_Point, as DerivedCoreProperties.txt lists them."""


def test_no_character_that_is_not_shown_splits_a_word() -> None:
    assert len(IGNORABLE) == 4174
    for point in IGNORABLE:
        assert fold(f"de{chr(point)}lete") == "delete", hex(point)
        assert fold(f"{chr(point)}") == "", hex(point)
        assert fold(f"e{chr(point)}\u0301") == "e", hex(point)


@pytest.mark.parametrize("point", [0x115F, 0x1160, 0x3164, 0xFFA0, 0x200B, 0xFE0F, 0xE0041])
def test_the_default_policy_sees_the_word_behind_them(point: int) -> None:
    hidden = "delete".replace("l", f"{chr(point)}l{chr(point)}")
    asked = PolicyInput("notify", {"channel": "ops", "message": f"please {hidden} it"}, "executor", "triage", "r1", ())
    assert RegoPolicy().decide(asked).verdict is Verdict.DENY
    title = f"a sen{chr(point)}sitive thing"
    asked = PolicyInput("create_task", {"title": title, "priority": "high"}, "executor", "triage", "r1", ())
    assert RegoPolicy().decide(asked).verdict is Verdict.REQUIRE_APPROVAL


def test_eight_threads_get_right_answers_from_one_policy() -> None:
    policy = RegoPolicy()
    start = threading.Barrier(8)

    def work(number: int) -> set[tuple[Verdict, str | None]]:
        start.wait(10)
        priority = "high" if number % 2 else "wrong"
        question = PolicyInput("create_task", {"title": f"t{number}", "priority": priority}, "executor", "triage", "r1", ())
        results = [policy.decide(question) for _ in range(200)]
        return {(result.verdict, result.error) for result in results}

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    assert answers == [{(Verdict.ALLOW if number % 2 else Verdict.DENY, None)} for number in range(8)]


def test_a_policy_may_be_let_go_while_threads_that_used_it_live(allow_all: RegoPolicy) -> None:
    # Warnings are errors here: an engine dropped in another thread than its own would fail this test as unraisable.
    with ThreadPoolExecutor(2) as pool:
        policy: RegoPolicy | None = RegoPolicy()
        assert policy is not None
        question = PolicyInput("notify", {"channel": "c", "message": "m"}, "executor", "triage", "r1", ())
        assert pool.submit(policy.decide, question).result().verdict is Verdict.ALLOW
        del policy


def test_a_policy_that_was_asked_before_a_fork_answers_after_it() -> None:
    code = (
        "import os, sys\nfrom taskpilot.policy import RegoPolicy\nfrom taskpilot.policy.check import FIXTURES\n"
        "policy = RegoPolicy()\nright = lambda: all(policy.decide(f.question).verdict is f.expected for f in FIXTURES)\n"
        "assert right()\npid = os.fork()\nif pid == 0: os._exit(0 if right() else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_policy_module_wakes_no_engine(tmp_path: Path) -> None:
    code = "import sys, taskpilot.policy as p; p.RegoPolicy(); print('regorus' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
