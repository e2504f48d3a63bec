"""A task that failed and is approved again: worked on afresh, by a run that may have succeeded without it."""

from typing import Any

import pytest

from taskpilot import RunContext, job, tool
from taskpilot.domain.errors import TransitionRefused
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.messages.actions import Continuation
from taskpilot.services.approvals import approve_task
from taskpilot.testing import ScriptedModel, tool_call
from tests.spine import Spine

APPROVE = {"verdict": "APPROVE", "reason": "it follows from the request"}
PLAN = {"tasks": [{"title": "Open it", "priority": "low"}]}
FILED = [tool_call("create_task", title="Open it", priority="low")]


@tool
def open_door(name: str) -> str:
    """Open a door."""
    return f"{name} is open"


@job(name="flow", tools=[open_door])
def flow(ctx: RunContext) -> Any:
    """Handle one request."""
    return ctx.workflow("the door is shut")


def test_a_failed_task_that_is_approved_again_is_executed_afresh_and_nothing_before_it_is_asked_again(spine: Spine) -> None:
    first = spine.run(flow, ScriptedModel([PLAN, APPROVE, "I would rather not."]))
    (failed,) = spine.tasks(first.run.id)
    assert (first.run.status, failed.status) == (RunStatus.SUCCEEDED, TaskStatus.FAILED)
    approved = approve_task(spine.deployment, failed.id, by="ada", note="try again")
    assert approved.continuation is Continuation.BY_RESUME
    model = ScriptedModel([FILED, "Done."])
    second = spine.resume(flow, first.run.id, model)
    assert [request.agent for request in model.requests] == ["executor", "executor"]
    (task,) = spine.tasks(first.run.id)
    assert (second.run.status, task.status) == (RunStatus.SUCCEEDED, TaskStatus.EXECUTED)


def test_a_run_that_succeeded_and_has_nothing_left_to_do_is_not_resumed(spine: Spine) -> None:
    first = spine.run(flow, ScriptedModel([PLAN, APPROVE, FILED, "Done."]))
    with pytest.raises(TransitionRefused, match="nothing to resume"):
        spine.resume(flow, first.run.id, ScriptedModel([]))


def test_a_persons_words_stay_with_the_task_that_they_let_go_on(spine: Spine) -> None:
    first = spine.run(flow, ScriptedModel([PLAN, {"verdict": "REVIEW", "reason": "who asked?"}]))
    approve_task(spine.deployment, spine.tasks(first.run.id)[0].id, by="ada", note="asked finance")
    spine.resume(flow, first.run.id, ScriptedModel([FILED, "Done."]))
    (task,) = spine.tasks(first.run.id)
    assert (task.status, task.reason) == (TaskStatus.EXECUTED, "approved by ada: asked finance")
