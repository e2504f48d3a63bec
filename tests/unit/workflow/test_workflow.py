"""plan -> review -> execute: what becomes of a request's tasks, in one attempt and over several."""

from typing import Any

import pytest

from taskpilot import ModelRefused, ModelUnavailable, Retry, RunContext, job, tool
from taskpilot.domain.chat import ChatReply, ChatRequest
from taskpilot.domain.decisions import Verdict
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.services.approvals import approve_decision, approve_task, reject_decision, reject_task
from taskpilot.testing import JobResult, ScriptedModel, run_job, tool_call
from taskpilot.workflow.execution import CALLS_MAX, ROUNDS_MAX
from tests.spine import Killed, Spine

APPROVE = {"verdict": "APPROVE", "reason": "it follows from the request"}


@tool
def open_door(name: str) -> str:
    """Open a door."""
    return f"{name} is open"


@job(name="flow", tools=[open_door], retry=Retry(attempts=3))
def flow(ctx: RunContext) -> Any:
    """Handle one request."""
    return ctx.workflow("the door is shut")


def plan(*titles: str, priority: str = "low") -> dict[str, Any]:
    return {"tasks": [{"title": title, "priority": priority} for title in titles]}


def filed(title: str = "Open it", priority: str = "low") -> list[Any]:
    return [tool_call("create_task", title=title, priority=priority)]


def statuses(ran: JobResult) -> list[TaskStatus]:
    return [task.status for task in ran.tasks]


def test_an_approved_task_is_filed_by_the_executor() -> None:
    model = ScriptedModel([plan("Open it"), APPROVE, filed(), "Done."])
    ran = run_job(flow, model=model)
    assert statuses(ran) == [TaskStatus.EXECUTED]
    assert [request.agent for request in model.requests] == ["planner", "reviewer", "executor", "executor"]
    (task,) = ran.result["tasks"]
    assert (task["title"], task["status"]) == ("Open it", "executed")


@pytest.mark.parametrize(("verdict", "status"), [("REJECTED", TaskStatus.REJECTED), ("REVIEW", TaskStatus.REVIEW)])
def test_only_approve_lets_a_task_be_executed(verdict: str, status: TaskStatus) -> None:
    model = ScriptedModel([plan("Open it"), {"verdict": verdict, "reason": "hm"}])
    ran = run_job(flow, model=model)
    assert statuses(ran) == [status]
    assert len(model.requests) == 2


@pytest.mark.parametrize(
    "said",
    [
        "NOT APPROVED",
        "APPROVE",
        '{"verdict": "NOT APPROVED", "reason": "no"}',
        '{"verdict": "approve", "reason": "lower case"}',
        '{"reason": "APPROVE"}',
    ],
)
def test_a_text_that_holds_the_word_approves_nothing(said: str) -> None:
    ran = run_job(flow, model=ScriptedModel([plan("Open it"), said, said]))
    assert statuses(ran) == [TaskStatus.PENDING]
    assert ran.status is RunStatus.FAILED
    assert ran.decisions == ()


def test_a_rejection_is_a_success_of_the_review() -> None:
    assert run_job(flow, model=ScriptedModel([plan("Spam"), {"verdict": "REJECTED", "reason": "spam"}])).exit_code == 0


def test_a_review_parks_the_run_when_all_other_tasks_are_done() -> None:
    model = ScriptedModel([plan("Look at it", "Open it"), {"verdict": "REVIEW", "reason": "unclear"}, APPROVE, filed(), "Done."])
    ran = run_job(flow, model=model)
    assert (ran.exit_code, statuses(ran)) == (13, [TaskStatus.REVIEW, TaskStatus.EXECUTED])


@pytest.mark.parametrize("yes", [True, False])
def test_a_reviewed_task_goes_on_from_the_journal(spine: Spine, yes: bool) -> None:
    first = spine.run(flow, ScriptedModel([plan("Open it"), {"verdict": "REVIEW", "reason": "unclear"}]))
    (task,) = spine.tasks(first.run.id)
    assert first.run.reason == task.question
    (approve_task if yes else reject_task)(spine.deployment, task.id, by="ada", note="")
    model = ScriptedModel([filed(), "Done."] if yes else [])
    second = spine.resume(flow, first.run.id, model)
    assert second.run.status is RunStatus.SUCCEEDED
    assert spine.tasks(first.run.id)[0].status is (TaskStatus.EXECUTED if yes else TaskStatus.REJECTED)
    assert second.run.spend.llm_calls == (4 if yes else 2)


@pytest.mark.parametrize("yes", [True, False])
def test_a_call_that_needs_approval_parks_the_task_and_goes_on_after_the_answer(spine: Spine, yes: bool) -> None:
    sensitive = "A sensitive door"
    first = spine.run(flow, ScriptedModel([plan(sensitive, priority="high"), APPROVE, filed(sensitive, "high")]))
    assert first.run.status is RunStatus.WAITING
    (decision,) = spine.decisions(first.run.id)
    assert decision.verdict is Verdict.REQUIRE_APPROVAL
    (approve_decision if yes else reject_decision)(spine.deployment, decision.id, by="ada", note="so be it")
    second = spine.resume(flow, first.run.id, ScriptedModel(["Done."]))
    assert second.run.status is RunStatus.SUCCEEDED
    (task,) = spine.tasks(first.run.id)
    assert task.status is (TaskStatus.EXECUTED if yes else TaskStatus.FAILED)
    assert yes or "so be it" in task.reason


def test_the_title_that_was_reviewed_is_the_title_that_is_decided_and_filed() -> None:
    model = ScriptedModel([plan("Open it"), APPROVE, filed("Something else altogether", "high"), "Done."])
    ran = run_job(flow, model=model)
    assert [(task.title, task.priority, task.status) for task in ran.tasks] == [("Open it", "low", TaskStatus.EXECUTED)]
    assert ran.decisions[0].arguments["title"] == "Open it"


def test_a_task_is_filed_once_however_often_the_model_asks() -> None:
    ran = run_job(flow, model=ScriptedModel([plan("Open it"), APPROVE, filed() + filed(), filed(), "Done."]))
    assert statuses(ran) == [TaskStatus.EXECUTED]


def test_a_denial_is_the_tools_answer_and_the_task_fails_where_the_model_gives_up() -> None:
    seen: list[str] = []

    def model(request: ChatRequest) -> Any:
        if request.agent == "planner":
            return plan("Tell them")
        if request.agent == "reviewer":
            return APPROVE
        if request.messages[-1].role == "tool":
            seen.append(request.messages[-1].content)
            return "I give up."
        return [tool_call("notify", channel="x", message="delete it all")]

    ran = run_job(flow, model=ScriptedModel(model))
    assert (ran.status, statuses(ran)) == (RunStatus.SUCCEEDED, [TaskStatus.FAILED])
    assert seen[0].startswith("denied: ")
    assert "delete" in ran.tasks[0].reason


def test_a_task_whose_filing_was_denied_is_not_executed_by_another_tool() -> None:
    deny = 'package taskpilot.tools\ndeny contains "not today" if input.tool == "create_task"\n'
    model = ScriptedModel([plan("Open it"), APPROVE, filed(), [tool_call("open_door", name="front")], "Done."])
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "mine.rego"
        policy.write_text(deny)
        ran = run_job(flow, model=model, settings=f'[policy]\nfiles = ["{policy}"]\n')
    assert statuses(ran) == [TaskStatus.FAILED]
    assert "not today" in ran.tasks[0].reason


def test_a_jobs_own_tool_executes_a_task() -> None:
    ran = run_job(flow, model=ScriptedModel([plan("Open it"), APPROVE, [tool_call("open_door", name="front")], "It is open."]))
    assert statuses(ran) == [TaskStatus.EXECUTED]
    assert ran.tasks[0].reason == "it follows from the request"


def test_a_model_that_does_nothing_fails_the_task() -> None:
    ran = run_job(flow, model=ScriptedModel([plan("Open it"), APPROVE, "I would rather not."]))
    assert statuses(ran) == [TaskStatus.FAILED]
    assert "rather not" in ran.tasks[0].reason


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (tool_call("no_such_tool", x=1), "denied: "),
        (tool_call("open_door", wrong="front"), "error: "),
        (tool_call("delete_task", task_id="1"), "denied: "),
    ],
)
def test_a_call_that_cannot_be_made_is_an_answer_to_the_model_and_no_crash(call: Any, answer: str) -> None:
    model = ScriptedModel([plan("Open it"), APPROVE, [call], filed(), "Done."])
    ran = run_job(flow, model=model)
    assert statuses(ran) == [TaskStatus.EXECUTED]
    assert answer in model.requests[3].messages[-1].content


def test_an_endless_loop_of_tools_ends() -> None:
    def model(request: ChatRequest) -> Any:
        return {"planner": plan("Open it"), "reviewer": APPROVE}.get(request.agent) or [tool_call("open_door", name="again")]

    ran = run_job(flow, model=ScriptedModel(model))
    assert len([step for step in ran.steps if step.kind == "ask"]) == 2 + ROUNDS_MAX
    assert ran.status is RunStatus.SUCCEEDED


def test_of_a_thousand_calls_in_one_reply_a_few_are_made() -> None:
    many = [tool_call("open_door", name=str(number)) for number in range(1000)]
    ran = run_job(flow, model=ScriptedModel([plan("Open it"), APPROVE, many, "Done."]))
    assert len([step for step in ran.steps if step.kind == "call"]) == CALLS_MAX


def test_a_task_whose_model_call_is_refused_fails_and_the_others_go_on() -> None:
    model = ScriptedModel([plan("One", "Two"), APPROVE, ModelRefused("no such thing"), APPROVE, filed("Two"), "Done."])
    ran = run_job(flow, model=model)
    assert statuses(ran) == [TaskStatus.FAILED, TaskStatus.EXECUTED]


def test_a_task_whose_provider_is_away_stays_approved_for_the_next_attempt(spine: Spine) -> None:
    first = spine.run(flow, ScriptedModel([plan("Open it"), APPROVE, ModelUnavailable("away")]))
    assert first.run.status is RunStatus.QUEUED
    assert spine.tasks(first.run.id)[0].status is TaskStatus.APPROVED
    spine.later(31)
    second = spine.resume(flow, first.run.id, ScriptedModel([filed(), "Done."]))
    assert second.run.status is RunStatus.SUCCEEDED
    assert spine.tasks(first.run.id)[0].status is TaskStatus.EXECUTED


@pytest.mark.parametrize("killed_at", range(6))
def test_a_workflow_that_is_killed_at_any_question_ends_as_if_it_had_not_been(spine: Spine, killed_at: int) -> None:
    asked: list[str] = []

    def answer(request: ChatRequest) -> Any:
        number = len(asked)
        asked.append(request.agent)
        if number == killed_at:
            raise Killed
        about = request.messages[1].content
        if request.agent == "planner":
            return plan("One", "Two")
        if request.agent == "reviewer":
            return APPROVE
        if request.messages[-1].role == "tool":
            return "Done."
        return filed("One" if '"One"' in about else "Two")

    run_id = spine.killed(flow, ScriptedModel(answer))
    ran = spine.resume(flow, run_id, ScriptedModel(answer))
    assert ran.run.status is RunStatus.SUCCEEDED
    assert [(task.title, task.status) for task in spine.tasks(run_id)] == [("One", TaskStatus.EXECUTED), ("Two", TaskStatus.EXECUTED)]
    assert len(asked) == 7 + 1
    assert len({decision.step_key for decision in spine.decisions(run_id)}) == len(spine.decisions(run_id)) == 2


def test_text_that_is_no_unicode_or_full_of_controls_is_stored_and_changes_nothing() -> None:
    title = "Open \x1b[31m it \u202e now"
    model = ScriptedModel([plan(title), {"verdict": "APPROVE", "reason": "\u202e"}, filed(), "Done \ud83d."])
    ran = run_job(flow, model=model)
    assert statuses(ran) == [TaskStatus.EXECUTED]
    ran.tasks[0].title.encode("utf-8")


def test_a_request_may_be_any_json_and_is_the_planners_text() -> None:
    @job()
    def objects(ctx: RunContext) -> None:
        ctx.workflow({"b": 1, "a": ["ü"]})

    model = ScriptedModel([plan("Open it"), {"verdict": "REJECTED", "reason": "no"}])
    run_job(objects, model=model)
    assert model.requests[0].messages[-1].content == '{"a": ["ü"], "b": 1}'


@pytest.mark.parametrize(
    "tasks", [[], [{"title": "", "priority": "low"}], [{"title": "x", "priority": "urgent"}], [{"title": "x" * 501, "priority": "low"}]]
)
def test_a_plan_that_is_none_is_mended_once_or_fails(tasks: list[Any]) -> None:
    bad = {"tasks": tasks}
    ran = run_job(flow, model=ScriptedModel([bad, bad]))
    assert (ran.status, ran.tasks) == (RunStatus.FAILED, ())
    assert run_job(flow, model=ScriptedModel([bad, plan("Fine"), APPROVE, filed(), "Done."])).status is RunStatus.SUCCEEDED


def test_a_refusal_in_words_is_no_plan() -> None:
    refusal = ChatReply("", refusal="I will not plan this")
    assert "refused" in run_job(flow, model=ScriptedModel([refusal, refusal])).reason


def test_a_task_that_the_job_files_itself_is_pending_and_never_executed() -> None:
    @job()
    def files(ctx: RunContext) -> str:
        return str(ctx.call("create_task", title="  For people ", priority="low", description="all of it"))

    ran = run_job(files)
    assert [(task.title, task.description, task.status) for task in ran.tasks] == [("For people", "all of it", TaskStatus.PENDING)]
    assert ran.result == "filed: For people (low)"
