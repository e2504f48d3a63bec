"""Secrets of the settings in what a model says and in the arguments of calls."""

import json
from typing import Any

import pytest

from taskpilot import RunContext, job, tool
from taskpilot.domain.chat import ChatReply, ToolCall
from taskpilot.domain.decisions import Verdict
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.testing import ScriptedModel, run_job, tool_call

SECRET = "canary/secret-1"
SETTINGS = '[openai]\nbase_url = "http://user:canary%2Fsecret-1@localhost/v1"'
APPROVE = {"verdict": "APPROVE", "reason": "fine"}
PLAN = {"tasks": [{"title": "Open it", "priority": "low"}]}
calls: list[str] = []


@tool(idempotent=True)
def send(text: str) -> str:
    """Send a text."""
    calls.append(text)
    return f"sent {text}"


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@job(tools=[send])
def flow(ctx: RunContext) -> str:
    """Handle one request."""
    return ",".join(task.status for task in ctx.workflow("the door is shut").tasks)


def proposed(name: str, arguments: str) -> list[ToolCall]:
    return [ToolCall("1", name, arguments)]


@pytest.mark.parametrize(
    "call",
    [
        proposed("send", json.dumps({"text": f"the key is {SECRET}"})),
        proposed("send", json.dumps({"text": SECRET}).replace("c", "\\u0063")),
        proposed("send", json.dumps({"text": "canary%2Fsecret-1"})),
        proposed("create_task", json.dumps({"title": "Open it", "priority": "low", "description": SECRET})),
        proposed("not_offered", json.dumps({"text": SECRET})),
    ],
)
def test_a_call_that_a_model_proposes_with_a_known_secret_is_denied_on_the_record(call: Any) -> None:
    model = ScriptedModel([PLAN, APPROVE, call, "I gave up."])
    ran = run_job(flow, model=model, settings=SETTINGS)
    assert (calls, [task.status for task in ran.tasks]) == ([], [TaskStatus.FAILED])
    (decision,) = ran.decisions
    assert decision.verdict is Verdict.DENY
    assert SECRET not in json.dumps([decision.arguments, [step.input for step in ran.steps], [step.error for step in ran.steps]])


def test_a_secret_that_a_model_repeats_is_neither_recorded_nor_sent_back_nor_given_to_the_job() -> None:
    @job()
    def asks(ctx: RunContext) -> str:
        return ctx.ask("a", "one") + ctx.ask("b", "two", allow_partial=True)

    model = ScriptedModel([f"The key is {SECRET}.", ChatReply(f"cut {SECRET}", finish_reason="length")])
    ran = run_job(asks, model=model, settings=SETTINGS)
    assert ran.result == "The key is ***secret***.cut ***secret***"
    assert SECRET not in json.dumps([step.result for step in ran.steps])
    refused = run_job(asks, model=ScriptedModel([ChatReply("", refusal=f"no {SECRET}")]), settings=SETTINGS)
    assert SECRET not in refused.reason


def test_a_jobs_own_code_may_pass_a_secret_and_the_record_has_a_placeholder() -> None:
    @job(tools=[send])
    def sends(ctx: RunContext) -> str:
        return ctx.call(send, text=SECRET)

    ran = run_job(sends, settings=SETTINGS)
    assert (ran.status, calls) == (RunStatus.SUCCEEDED, [SECRET])
    assert [decision.arguments for decision in ran.decisions] == [{"text": "***secret***"}]
    assert [(step.input, step.status) for step in ran.steps] == [({"text": "***secret***"}, StepStatus.SUCCEEDED)]


def test_a_secret_in_a_name_is_masked_and_the_step_is_found_again() -> None:
    @job()
    def names(ctx: RunContext) -> list[Any]:
        ctx.remember("token ghp_0123456789abcdef0123", 1)
        said = ctx.ask(f"agent {SECRET}", "one")
        return [said, ctx.step("read sk-proj-Ab12Cd34Ef56Gh78", str.upper, "x")]

    ran = run_job(names, model=ScriptedModel(["fine"]), settings=SETTINGS)
    assert ran.result == ["fine", "X"]
    assert [step.name for step in ran.steps] == ["token ***", "agent ***", "read ***"]
    assert not any("Ab12Cd34" in step.scope or SECRET in step.scope for step in ran.steps)


def test_without_a_known_secret_nothing_changes() -> None:
    model = ScriptedModel([PLAN, APPROVE, [tool_call("send", text="*** and ***")], "Done."])
    assert (run_job(flow, model=model).result, calls) == ("executed", ["*** and ***"])
