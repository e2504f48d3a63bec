"""Items of a map, steps and tool calls have scopes of their own: what is recorded in one is found again there, in any order."""

import time
from typing import Any

import pytest

from taskpilot import Retry, RunContext, job, tool
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind
from taskpilot.testing import ScriptedModel
from tests.spine import Killed, Spine


@pytest.mark.parametrize("concurrency", [1, 4])
def test_four_equal_prompts_that_are_resumed_in_another_order_are_not_asked_again(spine: Spine, concurrency: int) -> None:
    @job(retry=Retry(attempts=2))
    def maps(ctx: RunContext) -> list[str]:
        def ask(number: int) -> str:
            if ctx.attempt == 2:
                time.sleep(0.01 * (4 - number))
            return ctx.ask("twin", "the same question")

        answers = ctx.map(ask, range(4), concurrency=concurrency)
        if ctx.attempt == 1:
            remembered.append(answers)
            raise Killed
        return answers

    remembered: list[list[str]] = []
    first = ScriptedModel(lambda _request: f"answer {len(first.requests)}")
    second = ScriptedModel([])
    ran = spine.resume(maps, spine.killed(maps, first), second)
    assert ran.run.result == remembered[0]
    assert len(set(remembered[0])) == 4
    assert second.requests == []
    assert ran.run.spend.llm_calls == 4


def test_maps_in_maps_keep_their_items_apart(spine: Spine) -> None:
    @job(retry=Retry(attempts=2))
    def maps(ctx: RunContext) -> Any:
        def outer(letter: str) -> list[str]:
            return ctx.map(lambda number: ctx.ask("twin", f"{letter} or so"), range(2), concurrency=2) + ctx.map(
                lambda number: ctx.ask("twin", f"{letter} or so"), range(2)
            )

        found = ctx.map(outer, "ab", concurrency=2)
        if ctx.attempt == 1:
            remembered.append(found)
            raise Killed
        return found

    remembered: list[Any] = []
    first = ScriptedModel(lambda _request: f"answer {len(first.requests)}")
    ran = spine.resume(maps, spine.killed(maps, first), ScriptedModel([]))
    assert ran.run.result == remembered[0]
    assert len({step.scope for step in spine.steps(ran.run.id, StepKind.ASK)}) == 8


def test_a_step_and_a_map_of_the_same_name_do_not_share_a_scope(spine: Spine) -> None:
    @job()
    def maps(ctx: RunContext) -> None:
        ctx.step("a", lambda: ctx.step("b", lambda: ctx.step("c", lambda: 1)))
        ctx.step("a.0/b", lambda: ctx.step("c", lambda: 2))

    ran = spine.run(maps)
    assert ran.run.status is RunStatus.SUCCEEDED
    assert len({step.key for step in spine.steps(ran.run.id)}) == 5


def test_a_task_that_the_job_files_after_a_crash_is_not_taken_for_the_one_before(spine: Spine) -> None:
    @job(retry=Retry(attempts=2))
    def files(ctx: RunContext) -> None:
        ctx.call("create_task", title="first", priority="low")
        if ctx.attempt == 1:
            raise Killed
        ctx.call("create_task", title="second", priority="low")

    ran = spine.resume(files, spine.killed(files))
    assert [task.title for task in spine.tasks(ran.run.id)] == ["first", "second"]


def test_what_a_tool_asks_through_the_context_does_not_shift_what_comes_after_it(spine: Spine) -> None:
    contexts: list[RunContext] = []

    @tool
    def stamp(text: str) -> str:
        """Stamp a text."""
        return f"{text} {contexts[-1].uuid()}"

    seen: list[Any] = []

    @job(tools=[stamp], retry=Retry(attempts=2))
    def stamps(ctx: RunContext) -> None:
        contexts.append(ctx)
        ctx.call(stamp, text="a")
        seen.append(ctx.uuid())
        if ctx.attempt == 1:
            raise Killed

    spine.resume(stamps, spine.killed(stamps))
    assert seen[0] == seen[1]
