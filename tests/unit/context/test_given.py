"""What maps and workflows are given is compared with the record: a changed item is new work or waits, and is never reported as done."""

import random
from typing import Any

import pytest

from taskpilot import RunContext, job, tool
from taskpilot.domain.chat import ChatRequest
from taskpilot.domain.errors import TransitionRefused
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepAnswer, StepKind, StepStatus
from taskpilot.messages.questions import about_step
from taskpilot.messages.reasons import reason_sentence
from taskpilot.services.running import answer_step
from taskpilot.testing import ScriptedModel, tool_call
from tests.spine import Killed, Spine


class Desk:
    """A job whose inbox is read outside of a step, and what was sent for each request; `dies` kills it after so many requests."""

    def __init__(self, *inbox: str, sends: bool = False, loop: bool = False) -> None:
        self.inbox = list(inbox)
        self.sent: list[str] = []
        self.planned: list[str] = []
        self.dies: int | None = None

        @tool
        def send(text: str) -> str:
            """Send a text."""
            self.sent.append(text)
            return text

        @job(name="desk", tools=[send])
        def desk(ctx: RunContext) -> dict[str, Any]:
            """Handle every request."""
            done = 0

            def one(request: str) -> Any:
                nonlocal done
                if done == self.dies:
                    raise Killed
                result = ctx.workflow(request)
                if sends:
                    ctx.call("send", text=request)
                done += 1
                return [task.title for task in result.tasks]

            requests = list(self.inbox)
            found = [one(request) for request in requests] if loop else ctx.map(one, requests)
            if done == self.dies:
                raise Killed
            return dict(zip(requests, found, strict=True))

        self.job = desk

    def model(self) -> ScriptedModel:
        def answer(request: ChatRequest) -> Any:
            about = request.messages[1].content
            if request.agent == "planner":
                self.planned.append(about)
                return {"tasks": [{"title": f"do {about}", "priority": "low"}]}
            if request.agent == "reviewer":
                return {"verdict": "APPROVE", "reason": "fine"}
            return "Done." if request.messages[-1].role == "tool" else [tool_call("create_task", title="x", priority="low")]

        return ScriptedModel(answer)

    def killed(self, spine: Spine, after: int) -> str:
        self.dies = after
        run_id = spine.killed(self.job, self.model())
        self.dies = None
        return run_id

    def resumed(self, spine: Spine, run_id: str) -> Any:
        return spine.resume(self.job, run_id, self.model()).run

    def right(self) -> dict[str, list[str]]:
        return {request: [f"do {request}"] for request in self.inbox}


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        (["a"], ["b"], ["b"]),
        (["a", "b"], ["a", "c"], ["c"]),
        (["a", "b"], ["c", "a", "b"], ["c"]),
        (["a", "b", "c"], ["c", "b", "a"], []),
        (["a", "b"], ["b"], []),
        (["a", "a"], ["a", "a", "a"], ["a"]),
        (["a", "b"], ["b", "c", "a", "d"], ["c", "d"]),
        ([], ["a"], ["a"]),
    ],
)
def test_a_changed_inbox_is_worked_on_as_it_is_now_and_no_item_twice(
    spine: Spine, before: list[str], after: list[str], new: list[str], loop: bool
) -> None:
    desk = Desk(*before, loop=loop)
    run_id = desk.killed(spine, len(before))
    assert desk.planned == before
    desk.planned, desk.inbox = [], after
    run = desk.resumed(spine, run_id)
    assert (run.status, run.result, desk.planned) == (RunStatus.SUCCEEDED, desk.right(), new)


@pytest.mark.parametrize("loop", [False, True])
def test_a_changed_item_whose_former_work_had_effects_waits_for_a_person(spine: Spine, loop: bool) -> None:
    desk = Desk("a", "b", sends=True, loop=loop)
    run_id = desk.killed(spine, 2)
    desk.inbox = ["a", "c"]
    run = desk.resumed(spine, run_id)
    if loop:
        # In a loop the call itself is at a known place, and is the next that waits.
        assert "c" not in desk.sent
    assert (run.status, run.reason.code, desk.sent) == (RunStatus.WAITING, ReasonCode.DIVERGED_STEP, ["a", "b"])
    if loop:
        return
    assert "an item of a map is not the one of an earlier attempt" in reason_sentence(run.reason, now=True)
    (step,) = [one for one in spine.steps(run_id, StepKind.GIVEN) if one.status is StepStatus.DIVERGED]
    question = about_step(run_id, step)
    assert question.sentence.startswith("Work on the item of a map c?")
    assert [command.rsplit(" ", 1)[-1] for _, command in question.answers] == ["--again", "--fail"]
    assert desk.resumed(spine, run_id).status is RunStatus.WAITING
    with pytest.raises(TransitionRefused, match="no result to give"):
        answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(step.id, "done", result=1))
    answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(step.id, "again"))
    run = desk.resumed(spine, run_id)
    assert (run.status, run.result, desk.sent) == (RunStatus.SUCCEEDED, desk.right(), ["a", "b", "c"])


def test_a_person_may_say_that_the_changed_item_is_not_to_be_worked_on(spine: Spine) -> None:
    desk = Desk("a", sends=True)
    run_id = desk.killed(spine, 1)
    desk.inbox = ["b"]
    desk.resumed(spine, run_id)
    (step,) = [one for one in spine.steps(run_id, StepKind.GIVEN) if one.status is StepStatus.DIVERGED]
    answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(step.id, "fail"))
    run = desk.resumed(spine, run_id)
    assert (run.status, desk.sent) == (RunStatus.FAILED, ["a"])
    assert "not to be worked on" in reason_sentence(run.reason)


def test_a_workflow_in_a_workflows_place_is_the_one_that_was_asked_for(spine: Spine) -> None:
    """The request comes from outside of a step, and only it changes."""
    request = ["a"]
    desk = Desk()

    @job(name="single")
    def single(ctx: RunContext) -> list[str]:
        titles = [task.title for task in ctx.workflow({"text": request[0]}).tasks]
        if request[0] != "c":
            raise Killed
        return titles

    run_id = spine.killed(single, desk.model())
    request[0] = "b"
    spine.killed(single, desk.model(), grant=spine.ledger.resume(spine.plan(single, run_id=run_id)).grant)
    request[0] = "c"
    assert spine.resume(single, run_id, desk.model()).run.result == ['do {"text": "c"}']
    assert len(desk.planned) == 3


def test_a_changed_request_whose_tasks_had_effects_waits_for_a_person(spine: Spine) -> None:
    desk = Desk("a")
    send = desk.job.__taskpilot_job_tools__[0]

    @job(name="single", tools=[send])
    def single(ctx: RunContext) -> list[str]:
        titles = [task.title for task in ctx.workflow(desk.inbox[0]).tasks]
        if desk.inbox == ["a"]:
            raise Killed
        return titles

    def answer(request: ChatRequest) -> Any:
        if request.agent == "executor" and request.messages[-1].role == "user":
            return [tool_call("send", text=desk.inbox[0])]
        return model(request)

    model = desk.model()._replies  # type: ignore[assignment]
    run_id = spine.killed(single, ScriptedModel(answer))
    desk.inbox = ["b"]
    run = spine.resume(single, run_id, ScriptedModel(answer)).run
    assert (run.status, run.reason.facts["item"], desk.sent, desk.planned) == (RunStatus.WAITING, "workflow", ["a"], ["a"])
    (step,) = [one for one in spine.steps(run_id, StepKind.GIVEN) if one.status is StepStatus.DIVERGED]
    assert about_step(run_id, step).sentence.startswith("Work on the request of a workflow b?")
    answer_step(spine.deployment, spine.run_of(run_id), StepAnswer(step.id, "again"))
    assert spine.resume(single, run_id, ScriptedModel(answer)).run.result == ["do b"]
    assert desk.sent == ["a", "b"]


def test_items_that_only_their_type_tells_keep_their_place(spine: Spine) -> None:
    seen: list[int] = []

    @job(name="opaque")
    def opaque(ctx: RunContext) -> list[int]:
        def one(item: Any) -> int:
            return ctx.step("work", lambda: seen.append(1) or len(seen))

        found = ctx.map(one, [object(), object(), iter([1])])
        if len(seen) == 3 and ctx.attempt == 1:
            raise Killed
        return found

    run_id = spine.killed(opaque)
    assert spine.resume(opaque, run_id).run.result == [1, 2, 3]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_becomes_of_the_inbox_over_many_attempts(spine: Spine, seed: int) -> None:
    chance = random.Random(seed)
    desk = Desk(*(str(number) for number in range(4)))
    run_id = desk.killed(spine, chance.randrange(5))
    for _ in range(4):
        chance.shuffle(desk.inbox)
        desk.inbox = desk.inbox[: chance.randrange(5)] + [f"new {chance.randrange(3)}" for _ in range(chance.randrange(3))]
        desk.dies = chance.randrange(len(desk.inbox) + 1)
        grant = spine.ledger.resume(spine.plan(desk.job, run_id=run_id)).grant
        spine.killed(desk.job, desk.model(), grant=grant)
    desk.dies = None
    run = desk.resumed(spine, run_id)
    assert (run.status, run.result) == (RunStatus.SUCCEEDED, desk.right())
    counts = {text: desk.planned.count(text) for text in desk.planned}
    assert all(number == 1 for text, number in counts.items() if not text.startswith("new")), counts
