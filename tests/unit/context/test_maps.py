"""ctx.map: results in the order of the items, each item in a scope of its own, stops and errors by their gravity."""

import threading
import time
from typing import Any

import pytest

from taskpilot import Budget, BudgetExceeded, ItemError, ModelUnavailable, RunContext, TaskPilotError, job, tool
from taskpilot.domain.errors import ConfigurationError, DeadlineExceeded, LeaseLost, Stop, StoreBusy, StoreError, Terminated, Waiting
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind
from taskpilot.testing import ScriptedModel, run_job


def double(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * 2


@pytest.mark.parametrize("concurrency", [1, 4, 50])
def test_results_come_in_the_order_of_the_items(concurrency: int) -> None:
    @job()
    def maps(ctx: RunContext) -> list[int]:
        def slow_first(number: int) -> int:
            time.sleep(0.02 if number == 0 else 0)
            return double(number)

        return ctx.map(slow_first, range(6), concurrency=concurrency)

    assert run_job(maps).result == [0, 2, 4, 6, 8, 10]


def test_no_more_than_the_asked_number_runs_at_a_time() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def watch(_item: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    @job()
    def maps(ctx: RunContext) -> None:
        ctx.map(watch, range(12), concurrency=3)

    assert run_job(maps).status is RunStatus.SUCCEEDED
    assert most == 3


def test_an_empty_map_is_an_empty_list() -> None:
    @job()
    def maps(ctx: RunContext) -> list[int]:
        return ctx.map(double, [], concurrency=8)

    assert run_job(maps).result == []


@pytest.mark.parametrize("concurrency", [1, 3])
def test_raise_is_the_default_and_raises_the_error_itself(concurrency: int) -> None:
    @job()
    def maps(ctx: RunContext) -> None:
        with pytest.raises(ValueError, match="-1 is negative"):
            ctx.map(double, [1, -1, 2], concurrency=concurrency)

    assert run_job(maps).status is RunStatus.SUCCEEDED


def test_after_an_error_no_further_item_is_started() -> None:
    seen = []

    def note(number: int) -> int:
        seen.append(number)
        return double(number)

    @job()
    def maps(ctx: RunContext) -> None:
        ctx.map(note, [1, -1, 2, 3])

    assert run_job(maps).status is RunStatus.FAILED
    assert seen == [1, -1]


def test_collect_puts_a_typed_error_in_the_place_of_the_value() -> None:
    seen: list[Any] = []

    @job()
    def maps(ctx: RunContext) -> None:
        seen.extend(ctx.map(double, [1, -7, 2], concurrency=2, on_error="collect"))

    assert run_job(maps).status is RunStatus.SUCCEEDED
    assert seen[0] == 2
    assert seen[2] == 4
    assert isinstance(seen[1], ItemError)
    assert (seen[1].index, seen[1].item, str(seen[1].cause)) == (1, -7, "-7 is negative")


def test_a_job_may_return_what_a_map_collected() -> None:
    @job()
    def maps(ctx: RunContext) -> list[Any]:
        return ctx.map(double, [1, -1], on_error="collect")

    ran = run_job(maps)
    assert ran.status is RunStatus.SUCCEEDED
    assert ran.result == [2, {"item": 1, "error": "ValueError: -1 is negative"}]


def test_a_run_whose_every_item_failed_has_failed() -> None:
    @job()
    def maps(ctx: RunContext) -> str:
        ctx.map(double, [-1, -2], on_error="collect")
        return "all is well"

    ran = run_job(maps)
    assert (ran.status, ran.reason_code, ran.exit_code) == (RunStatus.FAILED, ReasonCode.EVERY_ITEM_FAILED, 1)
    assert (ran.reason_facts["error_type"], ran.reason_facts["error"]) == ("ValueError", "-1 is negative")


def test_one_item_whose_own_items_all_failed_does_not_fail_the_run() -> None:
    @job()
    def maps(ctx: RunContext) -> list[int]:
        def one(numbers: list[int]) -> int:
            found = ctx.map(double, numbers, on_error="collect")
            return sum(not isinstance(each, ItemError) for each in found)

        return ctx.map(one, [[1, 2], [-1, -2], [3]])

    ran = run_job(maps)
    assert (ran.status, ran.result) == (RunStatus.SUCCEEDED, [2, 0, 1])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelUnavailable("away"), 75),
        (ConfigurationError("no model"), 78),
        (StoreError("the disk is full"), 74),
        (StoreBusy("locked"), 75),
        (TaskPilotError("x"), 1),
    ],
)
def test_the_cause_that_all_items_share_decides_the_exit_code(error: Exception, code: int) -> None:
    @job()
    def maps(ctx: RunContext) -> None:
        def fail(_item: int) -> None:
            raise error

        ctx.map(fail, [1, 2], on_error="collect")

    ran = run_job(maps)
    assert (ran.status, ran.exit_code) == (RunStatus.FAILED, code)


def test_a_waiting_item_lets_the_others_finish_and_then_leaves_the_job() -> None:
    done = []

    @job()
    def maps(ctx: RunContext) -> None:
        def file(title: str) -> None:
            ctx.call("create_task", title=title, priority="high")
            done.append(title)

        ctx.map(file, ["one", "a sensitive one", "two"], on_error="collect")
        done.append("after")

    ran = run_job(maps)
    assert (ran.status, ran.exit_code) == (RunStatus.WAITING, 13)
    assert done == ["one", "two"]
    assert len(ran.decisions) == 3


def test_waiting_comes_before_an_error_of_another_item() -> None:
    @job()
    def maps(ctx: RunContext) -> None:
        def file(title: str) -> None:
            ctx.call("create_task", title=title, priority="high")
            if title == "bad":
                raise ValueError("bad")

        ctx.map(file, ["a sensitive one", "bad"])

    assert run_job(maps).status is RunStatus.WAITING


GRAVEST_FIRST: list[Stop] = [Terminated(), LeaseLost(), DeadlineExceeded(), BudgetExceeded(), Waiting()]


@pytest.mark.parametrize(
    ("graver", "lighter"), [(one, two) for number, one in enumerate(GRAVEST_FIRST) for two in GRAVEST_FIRST[number + 1 :]]
)
@pytest.mark.parametrize("graver_is_first", [True, False])
def test_the_gravest_stop_leaves_a_map(graver: Stop, lighter: Stop, graver_is_first: bool) -> None:
    raised: list[BaseException] = []
    barrier = threading.Barrier(2)

    @job()
    def maps(ctx: RunContext) -> None:
        def stop(what: Stop) -> None:
            barrier.wait(5)
            raise what

        try:
            ctx.map(stop, [graver, lighter] if graver_is_first else [lighter, graver], concurrency=2)
        except Stop as left:
            raised.append(left)

    run_job(maps)
    assert raised == [graver]


def test_a_budget_stop_is_never_collected() -> None:
    @job(budget=Budget(llm_calls=2))
    def maps(ctx: RunContext) -> None:
        ctx.map(lambda number: ctx.ask("a", f"question {number}"), range(5), on_error="collect")

    model = ScriptedModel(lambda _request: "an answer")
    ran = run_job(maps, model=model)
    assert (ran.status, ran.exit_code) == (RunStatus.BUDGET_EXCEEDED, 12)
    assert len(model.requests) == 2


@pytest.mark.parametrize("bad", [{"concurrency": 0}, {"concurrency": -1}, {"on_error": "ignore"}])
def test_a_map_that_makes_no_sense_is_refused(bad: dict[str, Any]) -> None:
    @job()
    def maps(ctx: RunContext) -> None:
        ctx.map(double, [1], **bad)

    assert run_job(maps).reason_facts["error_type"] == "ValueError"


def test_a_thread_that_the_job_starts_gets_a_hint_to_use_map() -> None:
    hints = []

    @job()
    def maps(ctx: RunContext) -> None:
        def ask() -> None:
            try:
                ctx.now()
            except TaskPilotError as error:
                hints.append(error.hint)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    run_job(maps)
    assert hints == ["use ctx.map(function, items, concurrency=N)"]


def test_policy_decides_every_call_of_eight_threads() -> None:
    done: list[int] = []

    @tool
    def act(number: int) -> int:
        """Act."""
        done.append(number)
        return number

    @job(tools=[act])
    def maps(ctx: RunContext) -> list[int]:
        return ctx.map(lambda number: ctx.call(act, number=number), range(24), concurrency=8)

    ran = run_job(maps)
    assert ran.result == list(range(24))
    assert sorted(done) == list(range(24))
    assert len({decision.step_key for decision in ran.decisions}) == 24
    assert {step.decision_id for step in ran.steps if step.kind is StepKind.CALL} == {decision.id for decision in ran.decisions}
