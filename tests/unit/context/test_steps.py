"""Named steps: run once, recorded as JSON, and always re-read by the function's return annotation."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field

from taskpilot import Retry, RunContext, TaskPilotError, job
from taskpilot.context.scope import digest_of
from taskpilot.context.serialization import digestible, from_json, to_json
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.testing import run_job
from tests.spine import Killed, Spine


class Ticket(BaseModel):
    number: int = Field(alias="ticketNumber")
    opened: datetime


@dataclass
class Point:
    x: float
    tags: set[str]


def ticket() -> Ticket:
    return Ticket(ticketNumber=7, opened=datetime(2026, 1, 1, tzinfo=UTC))


def points() -> list[Point]:
    return [Point(1.5, {"a", "b"})]


def money() -> dict[date, Decimal]:
    return {date(2026, 1, 1): Decimal("0.10")}


def pause() -> timedelta:
    return timedelta(minutes=3)


def unannotated():  # type: ignore[no-untyped-def]  # noqa: ANN201
    return {"when": date(2026, 1, 1), "both": (1, 2)}


@pytest.mark.parametrize("function", [ticket, points, money, pause])
def test_a_result_comes_back_as_the_return_annotation_says(function: Callable[[], Any]) -> None:
    seen = []

    @job()
    def steps(ctx: RunContext) -> None:
        seen.append(ctx.step("make", function))

    assert run_job(steps).status is RunStatus.SUCCEEDED
    assert seen == [function()]
    assert type(seen[0]) is type(function())


def test_without_an_annotation_the_first_attempt_already_gets_plain_json_types() -> None:
    @job()
    def steps(ctx: RunContext) -> Any:
        value = ctx.step("make", unannotated)
        assert value == {"when": "2026-01-01", "both": [1, 2]}
        return value

    assert run_job(steps).status is RunStatus.SUCCEEDED


def test_a_later_attempt_gets_the_recorded_result_and_does_not_run_the_function_again(spine: Spine) -> None:
    ran = []

    def look() -> list[str]:
        ran.append(1)
        return ["a", "b"]

    @job(retry=Retry(attempts=2))
    def steps(ctx: RunContext) -> list[str]:
        found = ctx.step("look", look)
        if ctx.attempt == 1:
            raise Killed
        return found

    run_id = spine.killed(steps)
    assert spine.resume(steps, run_id).run.result == ["a", "b"]
    assert ran == [1]


def test_a_failed_step_is_made_anew(spine: Spine) -> None:
    def sometimes(fails: list[str] = ["yes"]) -> str:  # noqa: B006  the memory of this test's world
        if fails:
            fails.pop()
            raise OSError("the disk blinked")
        return "fine"

    @job()
    def steps(ctx: RunContext) -> str:
        return ctx.step("sometimes", sometimes)

    first = spine.run(steps)
    assert (first.run.status, first.run.reason.code) == (RunStatus.FAILED, ReasonCode.EXCEPTION)
    second = spine.resume(steps, first.run.id)
    assert (second.run.status, second.run.result) == (RunStatus.SUCCEEDED, "fine")
    assert [(step.make, step.status) for step in spine.steps(first.run.id)] == [(0, StepStatus.FAILED), (1, StepStatus.SUCCEEDED)]


def test_a_failed_step_goes_through_what_was_recorded_inside_of_it(spine: Spine) -> None:
    inner = []

    def look() -> int:
        inner.append(1)
        return 1

    @job(retry=Retry(attempts=2))
    def steps(ctx: RunContext) -> int:
        def outer() -> int:
            found = ctx.step("inner", look)
            if ctx.attempt == 1:
                raise Killed
            return found + 1

        return ctx.step("outer", outer)

    run_id = spine.killed(steps)
    assert spine.resume(steps, run_id).run.result == 2
    assert inner == [1]


NO_JSON = {
    "nan": math.nan,
    "inf": [math.inf],
    "deep": {"x": [-math.inf]},
    "half": "\ud800",
    "bytes": b"\xff",
    "huge": 10**5000,
    "object": object(),
}


@pytest.mark.parametrize("value", NO_JSON.values(), ids=NO_JSON.keys())
def test_what_is_no_json_is_refused_and_never_turned_into_something_else(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be recorded as JSON"):
        to_json(value)


def test_a_step_whose_result_is_no_json_is_recorded_as_failed(spine: Spine) -> None:
    def bad() -> float:
        return math.nan

    @job()
    def steps(ctx: RunContext) -> None:
        ctx.step("bad", bad)

    ran = spine.run(steps)
    assert ran.run.status is RunStatus.FAILED
    assert "cannot be recorded as JSON" in str(ran.run.reason.facts["error"])
    assert [step.status for step in spine.steps(ran.run.id)] == [StepStatus.FAILED]


def test_a_recorded_result_that_does_not_fit_the_annotation_any_more_says_which_step_and_is_not_retried(spine: Spine) -> None:
    def count() -> str:
        return "three"

    def recount() -> int:
        raise AssertionError("it is recorded, so it is not run")

    @job(name="steps", retry=Retry(attempts=5))
    def before(ctx: RunContext) -> None:
        ctx.step("count", count)
        raise Killed

    @job(name="steps", retry=Retry(attempts=5))
    def after(ctx: RunContext) -> int:
        return ctx.step("count", recount)

    run_id = spine.killed(before)
    ran = spine.resume(after, run_id)
    assert ran.run.status is RunStatus.FAILED
    assert "count" in str(ran.run.reason.facts["error"])
    assert "does not fit" in str(ran.run.reason.facts["error"])


def test_a_first_result_that_does_not_fit_its_own_annotation_is_an_error_of_ours_too() -> None:
    def count() -> int:
        return "three"  # type: ignore[return-value]

    with pytest.raises(TaskPilotError, match="does not fit"):
        from_json(count, "three", name="count")


def test_a_generator_that_is_an_argument_reaches_the_function_whole() -> None:
    def total(numbers: Iterator[int]) -> int:
        return sum(numbers)

    @job()
    def steps(ctx: RunContext) -> list[int]:
        return [ctx.step("total", total, (n for n in (1, 2, 3))), ctx.step("total", total, iter([4, 5]))]

    assert run_job(steps).result == [6, 9]


ODD = [*NO_JSON.values(), {1: 2, "1": 3}, {(1, 2): {3}}]


@pytest.mark.parametrize("value", ODD, ids=[*NO_JSON, "keys", "tuples"])
def test_any_python_value_may_be_an_argument(value: Any) -> None:
    def name_of(what: Any) -> str:
        return type(what).__name__

    @job()
    def steps(ctx: RunContext) -> str:
        return ctx.step("name", name_of, value)

    assert run_job(steps).result == type(value).__name__


def test_arguments_that_hold_themselves_have_a_digest_too() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert digest_of(digestible(ring))


def test_different_arguments_of_one_length_and_type_have_different_digests() -> None:
    values = [b"\xff", b"\xfe", "x", math.nan, math.inf, 10**5000, 10**5000 + 1, {1: 2}, {"1": 2}, {2, 1}, [1, 2, 3], Point(1, set())]
    assert len({digest_of(digestible(value)) for value in values}) == len(values)


def test_a_set_has_one_digest_in_every_process() -> None:
    code = (
        "from taskpilot.context.scope import digest_of; from taskpilot.context.serialization import digestible;"
        "print(digest_of(digestible([{'a', 'b', 'c', 'dd', 'e'}, frozenset({('x', 1), ('y', 2), ('z', 3)})])))"
    )
    environment = {"PATH": os.environ["PATH"]}
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={**environment, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(digests) == 1


def test_now_and_uuid_are_the_same_in_every_attempt(spine: Spine) -> None:
    seen = []

    @job(retry=Retry(attempts=2))
    def steps(ctx: RunContext) -> None:
        seen.append((ctx.now(), ctx.uuid(), ctx.now()))
        if ctx.attempt == 1:
            raise Killed

    run_id = spine.killed(steps)
    spine.later(60)
    spine.resume(steps, run_id)
    assert seen[0] == seen[1]
    assert [step.kind for step in spine.steps(run_id)] == [StepKind.NOW, StepKind.UUID, StepKind.NOW]


def test_an_error_text_that_is_no_unicode_does_not_hide_the_error(spine: Spine) -> None:
    def bad() -> None:
        raise ValueError("\ud800 is half a character")

    @job()
    def steps(ctx: RunContext) -> None:
        ctx.step("bad", bad)

    ran = spine.run(steps)
    assert "half a character" in str(ran.run.reason.facts["error"])
    assert [step.status for step in spine.steps(ran.run.id)] == [StepStatus.FAILED]


def test_a_step_is_not_begun_where_the_lease_ended_before_its_effect(spine: Spine) -> None:
    did = []

    @job()
    def steps(ctx: RunContext) -> None:
        start = ctx._session.journal.start

        def slow(*args: Any, **keywords: Any) -> Any:
            started = start(*args, **keywords)
            spine.later(3600)
            return started

        ctx._session.journal.start = slow  # type: ignore[method-assign]
        ctx.step("effect", lambda: did.append(1))

    ran = spine.run(steps)
    assert did == []
    assert ran.outcome.status is RunStatus.LOST
