"""Tool calls: decided first, journaled, made once."""

from typing import Any

import pytest

from taskpilot import Denied, Retry, RunContext, TaskPilotError, ToolFailed, job, tool
from taskpilot.domain.decisions import Verdict
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.services.running import StepAnswer, answer_step
from taskpilot.testing import run_job
from tests.spine import Killed, Spine

calls: list[Any] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@tool
def send(text: str) -> str:
    """Send a text."""
    calls.append(text)
    if text == "die":
        raise Killed
    if text == "fail":
        raise OSError("no route")
    return f"sent {text}"


@tool(idempotent=True)
def put(text: str) -> str:
    """Put a text."""
    calls.append(text)
    if text == "die" and len(calls) == 1:
        raise Killed
    if text == "fail" and len(calls) == 1:
        raise OSError("no route")
    return f"put {text}"


@tool
def unlisted(text: str) -> str:
    """Not for this job."""
    calls.append(text)
    return text


def test_a_listed_tool_is_allowed_and_its_decision_stands_before_its_step() -> None:
    @job(tools=[send])
    def sends(ctx: RunContext) -> str:
        return ctx.call(send, text="a")

    ran = run_job(sends)
    assert (ran.status, ran.result, calls) == (RunStatus.SUCCEEDED, "sent a", ["a"])
    (decision,) = ran.decisions
    (step,) = ran.steps
    assert decision.verdict is Verdict.ALLOW
    assert step.decision_id == decision.id
    assert decision.decided_at <= step.started_at


def test_a_tool_that_the_job_does_not_list_is_denied_and_not_called() -> None:
    @job(tools=[send])
    def sends(ctx: RunContext) -> str:
        return ctx.call(unlisted, text="a")

    ran = run_job(sends)
    assert (ran.status, ran.exit_code, calls) == (RunStatus.DENIED, 14, [])
    assert [decision.verdict for decision in ran.decisions] == [Verdict.DENY]


def test_a_denial_is_recorded_and_a_later_attempt_hears_the_same_words(spine: Spine) -> None:
    heard = []

    @job(tools=[send], retry=Retry(attempts=2))
    def sends(ctx: RunContext) -> None:
        try:
            ctx.call(unlisted, text="a")
        except Denied as error:
            heard.append(str(error))
        if ctx.attempt == 1:
            raise Killed

    spine.resume(sends, spine.killed(sends))
    assert heard[0] == heard[1]
    assert calls == []


def test_a_recorded_call_is_not_made_again(spine: Spine) -> None:
    @job(tools=[send], retry=Retry(attempts=2))
    def sends(ctx: RunContext) -> list[str]:
        said = [ctx.call(send, text="a")]
        if ctx.attempt == 1:
            raise Killed
        return [*said, ctx.call(send, text="b")]

    ran = spine.resume(sends, spine.killed(sends))
    assert ran.run.result == ["sent a", "sent b"]
    assert calls == ["a", "b"]
    assert ran.run.spend.tool_calls == 2


def test_a_call_that_was_begun_and_left_no_result_waits_for_a_person(spine: Spine) -> None:
    @job(tools=[send])
    def sends(ctx: RunContext) -> str:
        return ctx.call(send, text="die")

    run_id = spine.killed(sends)
    ran = spine.resume(sends, run_id)
    assert ran.run.status is RunStatus.WAITING
    assert (ran.run.reason.facts["run_id"], ran.run.reason.facts["tool"]) == (run_id, "send")
    assert calls == ["die"]


@pytest.mark.parametrize(("kind", "result", "status"), [("done", "sent by hand", RunStatus.SUCCEEDED), ("fail", None, RunStatus.FAILED)])
def test_a_person_answers_for_an_uncertain_call(spine: Spine, kind: Any, result: Any, status: RunStatus) -> None:
    @job(tools=[send])
    def sends(ctx: RunContext) -> str:
        return ctx.call(send, text="die")

    run_id = spine.killed(sends)
    (step,) = spine.steps(run_id)
    answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(step.id, kind, result))
    ran = spine.resume(sends, run_id)
    assert (ran.run.status, ran.run.result) == (status, result)
    assert calls == ["die"]


def test_a_person_says_again_and_the_call_is_made_once_more(spine: Spine) -> None:
    @job(tools=[send])
    def sends(ctx: RunContext) -> str:
        return ctx.call(send, text="die")

    run_id = spine.killed(sends)
    (step,) = spine.steps(run_id)
    answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(step.id, "again"))
    # The tool kills its process each time: that it was called a second time is what this test is about.
    spine.killed(sends, grant=spine.ledger.resume(spine.plan(sends, run_id=run_id)).grant)
    assert calls == ["die", "die"]
    assert [(one.make, one.status) for one in spine.steps(run_id)] == [(0, StepStatus.RETRY_REQUESTED), (1, StepStatus.UNKNOWN)]


@pytest.mark.parametrize("text", ["die", "fail"])
def test_an_idempotent_call_without_a_result_is_made_anew(spine: Spine, text: str) -> None:
    @job(tools=[put])
    def puts(ctx: RunContext) -> str:
        try:
            return ctx.call(put, text=text)
        except ToolFailed as error:
            raise Killed from error

    assert spine.resume(puts, spine.killed(puts)).run.result == f"put {text}"
    assert calls == [text, text]


def test_a_failed_call_of_a_tool_that_is_not_idempotent_stays_failed(spine: Spine) -> None:
    heard = []

    @job(tools=[send], retry=Retry(attempts=2))
    def sends(ctx: RunContext) -> None:
        try:
            ctx.call(send, text="fail")
        except ToolFailed as error:
            heard.append(str(error))
        if ctx.attempt == 1:
            raise Killed

    spine.resume(sends, spine.killed(sends))
    assert heard[0] == heard[1]
    assert calls == ["fail"]


def test_an_error_of_ours_out_of_a_tool_is_the_same_kind_of_error_in_every_attempt(spine: Spine) -> None:
    @tool
    def refuse(text: str) -> str:
        """Refuse."""
        raise TaskPilotError(text * 3000)

    heard = []

    @job(tools=[refuse], retry=Retry(attempts=2))
    def sends(ctx: RunContext) -> None:
        try:
            ctx.call(refuse, text="no ")
        except TaskPilotError as error:
            heard.append((type(error), str(error)))
        if ctx.attempt == 1:
            raise Killed

    spine.resume(sends, spine.killed(sends))
    assert heard[0] == heard[1]
    assert heard[0][0] is ToolFailed


def test_another_call_at_a_recorded_place_is_not_made_and_waits(spine: Spine) -> None:
    @job(tools=[send], retry=Retry(attempts=2))
    def sends(ctx: RunContext) -> None:
        ctx.call(send, text=f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise Killed

    run_id = spine.killed(sends)
    ran = spine.resume(sends, run_id)
    assert ran.run.status is RunStatus.WAITING
    assert calls == ["attempt 1"]
    assert [step.status for step in spine.steps(run_id)] == [StepStatus.SUCCEEDED, StepStatus.DIVERGED]


def test_a_yes_to_one_diverged_call_is_no_yes_to_a_third_one(spine: Spine) -> None:
    @job(tools=[send], retry=Retry(attempts=2))
    def sends(ctx: RunContext) -> None:
        ctx.call(send, text=f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise Killed

    run_id = spine.killed(sends)
    spine.resume(sends, run_id)
    diverged = next(step for step in spine.steps(run_id) if step.status is StepStatus.DIVERGED)
    answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(diverged.id, "again"))
    ran = spine.resume(sends, run_id)
    assert ran.run.status is RunStatus.WAITING
    assert calls == ["attempt 1"]


def test_calls_that_only_changed_their_order_are_found(spine: Spine) -> None:
    @job(tools=[send], retry=Retry(attempts=2))
    def sends(ctx: RunContext) -> list[str]:
        order = ["a", "b"] if ctx.attempt == 1 else ["b", "a"]
        said = [ctx.call(send, text=text) for text in order]
        if ctx.attempt == 1:
            raise Killed
        return said

    assert spine.resume(sends, spine.killed(sends)).run.result == ["sent b", "sent a"]
    assert calls == ["a", "b"]


def test_equal_calls_are_told_apart_by_their_count(spine: Spine) -> None:
    @job(tools=[send], retry=Retry(attempts=2))
    def sends(ctx: RunContext) -> None:
        ctx.call(send, text="a")
        ctx.call(send, text="a")
        if ctx.attempt == 1:
            raise Killed
        ctx.call(send, text="a")

    assert spine.resume(sends, spine.killed(sends)).run.status is RunStatus.SUCCEEDED
    assert calls == ["a", "a", "a"]


def test_a_tool_call_ceiling_stops_the_run_before_the_call_too_many() -> None:
    from taskpilot import Budget

    @job(tools=[send], budget=Budget(tool_calls=2))
    def sends(ctx: RunContext) -> None:
        for number in range(5):
            ctx.call(send, text=str(number))

    ran = run_job(sends)
    assert (ran.status, ran.exit_code, calls) == (RunStatus.BUDGET_EXCEEDED, 12, ["0", "1"])
    assert [step.kind for step in ran.steps] == [StepKind.CALL, StepKind.CALL]
