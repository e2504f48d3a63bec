"""The ceiling of tool calls of one task, replies with a repeated key, and calls to tools that were not offered."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from taskpilot import Denied, RunContext, job, tool
from taskpilot.domain.chat import ChatReply, ChatRequest, ToolCall
from taskpilot.domain.decisions import Verdict
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.instruments import TOOL_CALLS
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.testing import ScriptedModel, run_job, tool_call
from tests.spine import Killed, Spine

PLAN = {"tasks": [{"title": "Open it", "priority": "low"}]}
APPROVE = {"verdict": "APPROVE", "reason": "it follows from the request"}
FILED = [tool_call("create_task", title="Open it", priority="low")]


@tool
def open_door(name: str) -> str:
    """Open a door."""
    return f"{name} is open"


def flow_with(**options: Any) -> Any:
    @job(name="flow", tools=[open_door], **options)
    def flow(ctx: RunContext) -> Any:
        """Handle one request."""
        return ctx.workflow("the door is shut")

    return flow


def eager(calls: int, *, first: list[ToolCall] | None = None) -> ScriptedModel:
    """A model that opens so many doors in each reply, for ever."""
    sent = iter(range(10_000))
    filing = [first or []]

    def answer(request: ChatRequest) -> Any:
        prepared = {"planner": PLAN, "reviewer": APPROVE}.get(request.agent)
        return prepared or [*(filing.pop() if filing else ()), *(tool_call("open_door", name=str(next(sent))) for _ in range(calls))]

    return ScriptedModel(answer)


@pytest.mark.parametrize(("options", "calls", "made"), [({}, 7, 20), ({}, 16, 20), ({"task_tool_calls": 3}, 2, 3), ({}, 128, 20)])
def test_one_task_makes_no_more_tool_calls_than_its_ceiling(options: dict[str, Any], calls: int, made: int) -> None:
    ran = run_job(flow_with(**options), model=eager(calls))
    assert len([step for step in ran.steps if step.kind is StepKind.CALL]) == made
    (task,) = ran.tasks
    assert (task.status, ran.status) == (TaskStatus.FAILED, RunStatus.SUCCEEDED)
    assert f"{made} tool calls for one task (task_tool_calls)" in task.reason
    assert ran.result["tasks"][0]["reason"] == task.reason


def test_a_task_that_was_filed_before_its_ceiling_stays_executed() -> None:
    ran = run_job(flow_with(), model=eager(9, first=FILED))
    assert len([step for step in ran.steps if step.kind is StepKind.CALL]) == 20
    assert ran.tasks[0].status is TaskStatus.EXECUTED


def test_the_ceiling_counts_over_attempts(spine: Spine) -> None:
    flow, asked = flow_with(task_tool_calls=5), [0]

    def answer(request: ChatRequest) -> Any:
        if request.agent != "executor":
            return {"planner": PLAN, "reviewer": APPROVE}[request.agent]
        asked[0] += 1
        if asked[0] == 3:
            raise Killed
        return [tool_call("open_door", name=f"{asked[0]}{side}") for side in "ab"]

    run_id = spine.killed(flow, ScriptedModel(answer))
    spine.resume(flow, run_id, ScriptedModel(answer))
    assert len(spine.steps(run_id, StepKind.CALL)) == 5


@pytest.mark.parametrize("wrong", [0, -1, True, "20", None, 2.5])
def test_a_ceiling_that_is_no_count_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="task_tool_calls"):
        flow_with(task_tool_calls=wrong)


@pytest.mark.parametrize(
    "said",
    [
        '{"verdict": "REJECTED", "reason": "spam", "verdict": "APPROVE"}',
        '{"verdict": "APPROVE", "reason": "a", "reason": "b"}',
        '{"verdict": "REJECTED", "reason": "spam", "\\u0076erdict": "APPROVE"}',
        '```json\n{"verdict": "REJECTED", "verdict": "APPROVE", "reason": ""}\n```',
    ],
)
def test_a_review_with_a_repeated_key_approves_nothing(said: str) -> None:
    ran = run_job(flow_with(), model=ScriptedModel([PLAN, said, said]))
    assert ([task.status for task in ran.tasks], ran.decisions) == ([TaskStatus.PENDING], ())
    assert run_job(flow_with(), model=ScriptedModel([PLAN, said, APPROVE, FILED, "Done."])).tasks[0].status is TaskStatus.EXECUTED


def test_every_structured_reply_is_read_so() -> None:
    class Amount(BaseModel):
        inner: dict[str, int]

    @job()
    def asks(ctx: RunContext) -> int:
        return ctx.ask("clerk", "how much?", output=Amount).inner["usd"]

    ran = run_job(asks, model=ScriptedModel(['{"inner": {"usd": 1, "usd": 100}}', '{"inner": {"usd": 1}}']))
    assert ran.result == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("no_such_tool", '{"a": 1}'),
        ("delete_task", ""),
        ("", "no json"),
        ("rm -rf /", '{"a": 1, "a": 2}'),
        ("x" * 500, "[1]"),
        ("send\u202eliame", '{"a": "' + "x" * 70_000 + '"}'),
        ("create_task ", '{"title": "t", "priority": "low"}'),
        ("a\nb", '{"a": NaN}'),
    ],
)
def test_a_call_to_a_tool_that_was_not_offered_is_a_recorded_denial(name: str, arguments: str) -> None:
    model = ScriptedModel([PLAN, APPROVE, [ToolCall("1", name, arguments)], FILED, "Done."])
    ran = run_job(flow_with(), model=model)
    denied, allowed = ran.decisions
    assert (denied.verdict, denied.path, denied.agent) == (Verdict.DENY, "taskpilot/guards", "executor")
    assert (allowed.verdict, ran.tasks[0].status) == (Verdict.ALLOW, TaskStatus.EXECUTED)
    assert [step.status for step in ran.steps if step.kind is StepKind.CALL] == [StepStatus.DENIED, StepStatus.SUCCEEDED]
    assert len(denied.tool) <= 128
    assert len(json.dumps(denied.arguments)) < 2_000
    assert model.requests[3].messages[-1].content.startswith("denied: ")


def test_such_a_denial_is_recorded_once_over_attempts_and_counted_under_one_label(spine: Spine) -> None:
    script: list[Any] = [PLAN, APPROVE, [tool_call("ghost", number=1), tool_call("ghost", number=2)]]

    def dies(request: ChatRequest) -> Any:
        if not script:
            raise Killed
        return script.pop(0)

    run_id = spine.killed(flow_with(), ScriptedModel(dies))
    spine.resume(flow_with(), run_id, ScriptedModel(["I give up."]))
    assert [one.arguments for one in spine.decisions(run_id)] == [{"number": 1}, {"number": 2}]
    assert spine.total(TOOL_CALLS.name) == {'{"status":"denied","tool":"other"}': 2}
    assert "no such tool" in spine.tasks(run_id)[0].reason


@pytest.mark.parametrize("agent", ["planner", "reviewer"])
def test_an_agent_that_was_offered_no_tool_and_calls_one_is_denied_on_the_record(agent: str) -> None:
    def answer(request: ChatRequest) -> Any:
        if request.agent == "executor":
            return FILED if request.messages[-1].role == "user" else "Done."
        text = json.dumps(PLAN if request.agent == "planner" else APPROVE)
        return ChatReply(text, tool_calls=(tool_call("open_door", name="front"),) if request.agent == agent else ())

    ran = run_job(flow_with(), model=ScriptedModel(answer))
    denied, allowed = ran.decisions
    assert (denied.agent, denied.tool, denied.verdict, allowed.verdict) == (agent, "open_door", Verdict.DENY, Verdict.ALLOW)


def test_a_job_that_names_an_unknown_tool_is_denied_on_the_record() -> None:
    @job()
    def calls(ctx: RunContext) -> None:
        ctx.call("ghost", at="midnight")

    ran = run_job(calls)
    assert (ran.status, ran.exit_code, [one.tool for one in ran.decisions]) == (RunStatus.DENIED, 14, ["ghost"])

    @job()
    def goes_on(ctx: RunContext) -> str:
        with pytest.raises(Denied, match="use one of create_task, notify"):
            ctx.call("ghost")
        return "on"

    assert run_job(goes_on).result == "on"
