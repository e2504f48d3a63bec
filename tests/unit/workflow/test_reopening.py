"""A task that failed and is approved again: worked on afresh, by a run that may have succeeded without it."""

from typing import Any

import pytest

from taskpilot import RunContext, job, tool
from taskpilot.domain.errors import TransitionRefused
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepAnswer, StepKind
from taskpilot.domain.tasks import TaskStatus
from taskpilot.messages.actions import Continuation, answered
from taskpilot.services.approvals import approve_decision, approve_task, reject_decision
from taskpilot.services.running import answer_step
from taskpilot.store import tasks
from taskpilot.testing import ScriptedModel, tool_call
from tests.spine import Killed, Spine

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


class Outbox:
    """Counts what is sent; a text that holds `lost` kills the process after it was sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

        @tool
        def send(text: str) -> str:
            """Send a text."""
            self.sent.append(text)
            if "lost" in text:
                raise Killed
            if "broken" in text:
                raise ConnectionError("no line")
            return f"sent {text}"

        @job(name="posts", tools=[send, open_door])
        def posts(ctx: RunContext) -> Any:
            """Handle one request."""
            return ctx.workflow("greet them")

        self.posts = posts


def sends(*texts: str) -> list[Any]:
    return [tool_call("send", text=text) for text in texts]


def failed_after(spine: Spine, outbox: Outbox, *texts: str) -> str:
    """The run whose task failed after these texts were sent."""
    deny = 'package taskpilot.tools\ndeny contains "not today" if input.tool == "create_task"\n'
    root = spine.deployment.settings.root
    (root / "ours.rego").write_text(deny)
    (root / "taskpilot.toml").write_text('[policy]\nfiles = ["ours.rego"]\n')
    spine.deployment.follow_settings()
    ran = spine.run(outbox.posts, ScriptedModel([PLAN, APPROVE, sends(*texts) + FILED, "It was denied."]))
    assert [task.status for task in spine.tasks(ran.run.id)] == [TaskStatus.FAILED]
    (root / "taskpilot.toml").write_text("")
    spine.deployment.follow_settings()
    return ran.run.id


def test_what_was_sent_is_shown_and_is_not_sent_again_by_an_approval(spine: Spine) -> None:
    outbox = Outbox()
    run_id = failed_after(spine, outbox, "hello", "bye", "hello")
    said = approve_task(spine.deployment, spine.tasks(run_id)[0].id, by="ada", note="")
    assert [step.input for step in said.effects] == [{"text": "hello"}, {"text": "bye"}, {"text": "hello"}]
    text = answered(said)
    assert all(word in text for word in ('send({"text": "hello"})', 'send({"text": "bye"})', "not made again", "--repeat"))
    model = ScriptedModel([sends("hello", "bye"), sends("hello") + FILED, "Done."])
    ran = spine.resume(outbox.posts, run_id, model)
    assert (ran.run.status, outbox.sent) == (RunStatus.SUCCEEDED, ["hello", "bye", "hello"])
    assert [message.content for message in model.requests[1].messages[-2:]] == ["sent hello", "sent bye"], "the recorded results"
    assert spine.tasks(run_id)[0].status is TaskStatus.EXECUTED


@pytest.mark.parametrize("yes", [True, False])
def test_another_call_of_the_same_tool_needs_its_own_yes(spine: Spine, yes: bool) -> None:
    outbox = Outbox()
    run_id = failed_after(spine, outbox, "hello")
    approve_task(spine.deployment, spine.tasks(run_id)[0].id, by="ada", note="")
    ran = spine.resume(outbox.posts, run_id, ScriptedModel([sends("hello", "hello, all")]))
    assert (ran.run.status, outbox.sent) == (RunStatus.WAITING, ["hello"])
    decision = spine.decisions(run_id)[-1]
    assert (decision.arguments, "hello" in decision.reasons[0]) == ({"text": "hello, all"}, True)
    (approve_decision if yes else reject_decision)(spine.deployment, decision.id, by="ada", note="")
    spine.resume(outbox.posts, run_id, ScriptedModel([FILED, "Done."]))
    assert outbox.sent == (["hello", "hello, all"] if yes else ["hello"])
    assert spine.tasks(run_id)[0].status is TaskStatus.EXECUTED


def test_a_third_equal_call_is_one_more_and_is_asked_about(spine: Spine) -> None:
    outbox = Outbox()
    run_id = failed_after(spine, outbox, "hello", "hello", "bye")
    approve_task(spine.deployment, spine.tasks(run_id)[0].id, by="ada", note="")
    ran = spine.resume(outbox.posts, run_id, ScriptedModel([sends("hello", "hello", "hello")]))
    assert (ran.run.status, outbox.sent) == (RunStatus.WAITING, ["hello", "hello", "bye"])


def test_with_a_persons_yes_to_the_repetition_it_is_sent_again(spine: Spine) -> None:
    outbox = Outbox()
    run_id = failed_after(spine, outbox, "hello")
    said = approve_task(spine.deployment, spine.tasks(run_id)[0].id, by="ada", note="", repeat=True)
    assert "may now make them again" in answered(said)
    spine.resume(outbox.posts, run_id, ScriptedModel([sends("hello") + FILED, "Done."]))
    assert outbox.sent == ["hello", "hello"]


def test_a_yes_to_the_repetition_is_for_one_execution(spine: Spine) -> None:
    outbox = Outbox()
    run_id = failed_after(spine, outbox, "hello")
    task = spine.tasks(run_id)[0].id
    approve_task(spine.deployment, task, by="ada", note="", repeat=True)
    spine.resume(outbox.posts, run_id, ScriptedModel(["I give up."]))
    approve_task(spine.deployment, task, by="ada", note="")
    spine.resume(outbox.posts, run_id, ScriptedModel([sends("hello") + FILED, "Done."]))
    assert outbox.sent == ["hello"]


def test_a_call_whose_result_is_unknown_is_not_repeated_either(spine: Spine) -> None:
    outbox = Outbox()
    run_id = spine.killed(outbox.posts, ScriptedModel([PLAN, APPROVE, sends("lost")]))
    (step,) = spine.steps(run_id, StepKind.CALL)
    with spine.store.write() as connection:
        tasks.move_task(connection, spine.tasks(run_id)[0].id, TaskStatus.FAILED, reason="by hand", now=spine.clock())
    said = approve_task(spine.deployment, spine.tasks(run_id)[0].id, by="ada", note="")
    assert [one.id for one in said.effects] == [step.id]
    ran = spine.resume(outbox.posts, run_id, ScriptedModel([sends("lost")]))
    assert (ran.run.reason.code, ran.run.reason.facts["step_id"]) == (ReasonCode.UNCERTAIN_STEP, step.id)
    assert outbox.sent == ["lost"]
    answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(step.id, "done", result="sent lost"))
    assert spine.resume(outbox.posts, run_id, ScriptedModel([FILED, "Done."])).run.status is RunStatus.SUCCEEDED
    assert outbox.sent == ["lost"]


def test_what_failed_or_is_harmless_is_made_again_without_a_question(spine: Spine) -> None:
    outbox = Outbox()
    run_id = failed_after(spine, outbox, "broken")
    assert approve_task(spine.deployment, spine.tasks(run_id)[0].id, by="ada", note="").effects == ()
    ran = spine.resume(outbox.posts, run_id, ScriptedModel([sends("broken") + FILED, "Done."]))
    assert (ran.run.status, outbox.sent) == (RunStatus.SUCCEEDED, ["broken", "broken"])


def test_only_a_failed_task_has_something_to_repeat(spine: Spine) -> None:
    first = spine.run(flow, ScriptedModel([PLAN, {"verdict": "REVIEW", "reason": "who asked?"}]))
    with pytest.raises(TransitionRefused, match="has not failed"):
        approve_task(spine.deployment, spine.tasks(first.run.id)[0].id, by="ada", note="", repeat=True)


def test_a_call_that_a_person_had_made_again_counts_once(spine: Spine) -> None:
    outbox = Outbox()
    run_id = spine.killed(outbox.posts, ScriptedModel([PLAN, APPROVE, sends("lost")]))
    spine.resume(outbox.posts, run_id, ScriptedModel([]))
    (step,) = spine.steps(run_id, StepKind.CALL)
    answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(step.id, "again"))
    grant = spine.ledger.resume(spine.plan(outbox.posts, run_id=run_id)).grant
    spine.killed(outbox.posts, ScriptedModel([]), grant=grant)
    again = spine.steps(run_id, StepKind.CALL)[-1]
    answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(again.id, "done", result="sent lost"))
    with spine.store.write() as connection:
        tasks.move_task(connection, spine.tasks(run_id)[0].id, TaskStatus.FAILED, reason="by hand", now=spine.clock())
    said = approve_task(spine.deployment, spine.tasks(run_id)[0].id, by="ada", note="")
    assert [one.id for one in said.effects] == [again.id]
    spine.resume(outbox.posts, run_id, ScriptedModel([sends("lost") + FILED, "Done."]))
    assert outbox.sent == ["lost", "lost"]
