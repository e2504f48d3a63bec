"""A person's answers: to tasks, to decisions, to uncertain steps; each once, and never lost to a telemetry problem."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskpilot import RunContext, job
from taskpilot.domain.decisions import DecisionStatus
from taskpilot.domain.errors import NotFound, TransitionRefused, UsageError
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepAnswer, StepKind, StepStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.messages.actions import Cancelled, Continuation, answered, cancelled
from taskpilot.services.approvals import approve_decision, approve_task, reject_decision, reject_task
from taskpilot.services.running import answer_step, cancel_run, find_run
from taskpilot.views.tasks import show_task
from tests.errors import saying
from tests.records import add_decision, add_run, add_step, add_task
from tests.spine import Spine

NOBODY = "01936b2e-0000-7000-8000-000000000000"


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    opened = Spine(tmp_path)
    yield opened
    opened.close()


@job(name="triage")
def triage(ctx: RunContext) -> None:
    """Do nothing."""


def test_a_yes_and_a_no_to_a_task_say_who_and_why(spine: Spine) -> None:
    run_id = add_run(spine.store, status=RunStatus.WAITING)
    yes, no = (add_task(spine.store, run_id, status=TaskStatus.REVIEW) for _ in range(2))
    approved = approve_task(spine.deployment, yes, by="ada", note="asked the team")
    assert answered(approved) == f"task {yes} is approved\nwhen all questions are answered: taskpilot runs resume {run_id}"
    reject_task(spine.deployment, no, by="ada", note="")
    assert (show_task(spine.deployment, yes).status, show_task(spine.deployment, yes).reason) == (
        TaskStatus.APPROVED,
        "approved by ada: asked the team",
    )
    assert (show_task(spine.deployment, no).status, show_task(spine.deployment, no).reason) == (TaskStatus.REJECTED, "rejected by ada")


def test_an_answer_to_a_task_of_a_run_that_is_over_names_no_command_that_would_be_refused(spine: Spine) -> None:
    run_id = add_run(spine.store, status=RunStatus.SUCCEEDED)
    task_id = add_task(spine.store, run_id, status=TaskStatus.PENDING, scope="/filed.0")
    approved = approve_task(spine.deployment, task_id, by="ada", note="")
    assert approved.continuation is Continuation.NONE
    assert answered(approved) == f"task {task_id} is approved\nrun {run_id} is succeeded and does not continue"


def test_a_step_that_is_no_id_is_refused_with_the_command_that_shows_them(spine: Spine) -> None:
    run_id = add_run(spine.store, status=RunStatus.WAITING)
    with pytest.raises(UsageError, check=saying(f"taskpilot runs show {run_id}")):
        answer_step(spine.deployment, find_run(spine.deployment, run_id), StepAnswer("3", "again"))


@pytest.mark.parametrize("status", [TaskStatus.EXECUTED, TaskStatus.REJECTED, TaskStatus.APPROVED])
def test_a_task_that_waits_for_nobody_is_not_approved(spine: Spine, status: TaskStatus) -> None:
    task_id = add_task(spine.store, add_run(spine.store), status=status)
    with pytest.raises(TransitionRefused, match=status.value):
        approve_task(spine.deployment, task_id, by="ada", note="")


def test_a_decision_is_answered_once(spine: Spine) -> None:
    run_id = add_run(spine.store, status=RunStatus.WAITING)
    decision_id = add_decision(spine.store, run_id)
    approved = approve_decision(spine.deployment, decision_id, by="ada", note="")
    assert f"is approved\nwhen all questions are answered: taskpilot runs resume {run_id}" in answered(approved)
    for again in (approve_decision, reject_decision):
        with pytest.raises(TransitionRefused, match="approved by ada"):
            again(spine.deployment, decision_id, by="eve", note="")
    (decision,) = spine.decisions(run_id)
    assert (decision.status, decision.settled_by) == (DecisionStatus.APPROVED, "ada")
    assert spine.total("taskpilot_approvals_total") == {'{"verdict":"approved"}': 1}


def test_an_answer_is_kept_and_said_where_the_folder_of_jobs_is_gone(spine: Spine) -> None:
    run_id = add_run(spine.store, status=RunStatus.WAITING)
    decision_id = add_decision(spine.store, run_id)
    assert not spine.deployment.settings.jobs_dir.exists()
    assert approve_decision(spine.deployment, decision_id, by="ada", note="").item.status is DecisionStatus.APPROVED


@pytest.mark.parametrize("what", [approve_task, reject_task, approve_decision, reject_decision])
@pytest.mark.parametrize(("text", "error"), [(NOBODY, (NotFound, UsageError)), ("../../etc", UsageError), ("", UsageError)])
def test_what_is_no_id_or_nobodys_is_a_usage_error(spine: Spine, what, text: str, error) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    with pytest.raises(error) as caught:
        what(spine.deployment, text, by="ada", note="")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("kind", "after"), [("done", StepStatus.SUCCEEDED), ("again", StepStatus.RETRY_REQUESTED), ("fail", StepStatus.FAILED)]
)
@pytest.mark.parametrize("before", [StepStatus.UNKNOWN, StepStatus.DIVERGED])
def test_a_step_takes_the_answer(spine: Spine, kind, after: StepStatus, before: StepStatus) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    run_id = add_run(spine.store, status=RunStatus.WAITING)
    step_id = add_step(spine.store, run_id, status=before)
    answer_step(spine.deployment, find_run(spine.deployment, run_id), StepAnswer(step_id, kind, {"id": 7}))
    (step,) = spine.steps(run_id)
    assert step.status is after
    assert step.result == ({"id": 7} if kind == "done" else None)


@pytest.mark.parametrize("status", [StepStatus.SUCCEEDED, StepStatus.DENIED, StepStatus.BEGUN, StepStatus.RETRY_REQUESTED])
def test_a_step_that_asks_nothing_takes_no_answer(spine: Spine, status: StepStatus) -> None:
    run_id = add_run(spine.store, status=RunStatus.WAITING)
    step_id = add_step(spine.store, run_id, status=status)
    with pytest.raises(TransitionRefused):
        answer_step(spine.deployment, find_run(spine.deployment, run_id), StepAnswer(step_id, "again"))


@pytest.mark.parametrize("kind", [StepKind.ASK, StepKind.STEP, StepKind.NOW])
def test_only_a_tool_call_is_answered_for(spine: Spine, kind: StepKind) -> None:
    run_id = add_run(spine.store, status=RunStatus.WAITING)
    step_id = add_step(spine.store, run_id, kind=kind)
    with pytest.raises(TransitionRefused, match="not a tool call"):
        answer_step(spine.deployment, find_run(spine.deployment, run_id), StepAnswer(step_id, "done", "x"))


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.CANCELLED, RunStatus.DENIED])
def test_a_run_that_is_over_takes_no_answer(spine: Spine, status: RunStatus) -> None:
    run_id = add_run(spine.store, status=status)
    step_id = add_step(spine.store, run_id)
    with pytest.raises(TransitionRefused):
        answer_step(spine.deployment, find_run(spine.deployment, run_id), StepAnswer(step_id, "again"))
    assert spine.steps(run_id)[0].status is StepStatus.UNKNOWN


def test_a_step_of_another_run_is_not_found(spine: Spine) -> None:
    run_id, other = (add_run(spine.store, status=RunStatus.WAITING) for _ in range(2))
    step_id = add_step(spine.store, other)
    with pytest.raises(UsageError, match="has no step"):
        answer_step(spine.deployment, find_run(spine.deployment, run_id), StepAnswer(step_id, "again"))


def test_a_run_that_nobody_knows_is_not_found(spine: Spine) -> None:
    with pytest.raises(NotFound):
        find_run(spine.deployment, NOBODY)
    with pytest.raises(UsageError):
        cancel_run(spine.deployment, "x")


def test_cancelling_says_whether_it_is_done_or_asked_for(spine: Spine) -> None:
    run_id = add_run(spine.store, status=RunStatus.WAITING, ended_at=None)
    ended = cancel_run(spine.deployment, run_id)
    assert ended == Cancelled(run_id, RunStatus.WAITING, ended=True)
    assert cancelled(ended) == f"run {run_id} was waiting and is now cancelled"
    asked = cancel_run(spine.deployment, spine.claim(triage).run.id)
    assert (asked.before, asked.ended) == (RunStatus.RUNNING, False)
    assert "is being cancelled" in cancelled(asked)
