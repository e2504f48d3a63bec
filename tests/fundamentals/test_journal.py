"""A run is a journal: what is recorded is not done twice, and not paid twice. Read from top to bottom."""

import math
from dataclasses import dataclass

from pydantic import BaseModel

from taskpilot import ItemError, ModelUnavailable, Retry, RunContext, job
from taskpilot.testing import ScriptedModel, run_job


class Capital(BaseModel):
    city: str


@dataclass
class Country:
    name: str
    people: int


def test_what_a_run_did_is_recorded() -> None:
    @job()
    def works(ctx: RunContext) -> None:
        ctx.step("look", len, "four")
        ctx.ask("helper", "And now?")

    ran = run_job(works, model=ScriptedModel(["Rest."]))
    assert [(step.kind, step.name, step.status) for step in ran.steps] == [("step", "look", "succeeded"), ("ask", "helper", "succeeded")]


def test_a_recorded_answer_is_not_paid_twice() -> None:
    @job(retry=Retry(attempts=2))
    def asks(ctx: RunContext) -> list[str]:
        return [ctx.ask("helper", "one?"), ctx.ask("helper", "two?")]

    model = ScriptedModel(["first", ModelUnavailable("the line is dead"), "second"])
    assert run_job(asks, model=model, attempts=2).result == ["first", "second"]
    assert [request.messages[-1].content for request in model.requests] == ["one?", "two?", "two?"]


def test_a_recorded_step_is_not_done_twice() -> None:
    done = []

    def send() -> str:
        done.append("sent")
        return "receipt 7"

    @job(retry=Retry(attempts=2))
    def sends(ctx: RunContext) -> str:
        receipt = ctx.step("send", send)
        if ctx.attempt == 1:
            raise ConnectionError("after it was sent")
        return receipt

    assert run_job(sends, attempts=2).result == "receipt 7"
    assert done == ["sent"]


def test_a_failed_step_is_done_anew() -> None:
    tries = []

    def flaky() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("try again")
        return len(tries)

    @job(retry=Retry(attempts=2))
    def retries(ctx: RunContext) -> int:
        return ctx.step("flaky", flaky)

    assert run_job(retries, attempts=2).result == 2


def test_the_time_and_a_random_id_are_the_same_in_every_attempt() -> None:
    seen = []

    @job(retry=Retry(attempts=2))
    def notes(ctx: RunContext) -> None:
        seen.append((ctx.now(), ctx.uuid()))
        if ctx.attempt == 1:
            raise ConnectionError

    run_job(notes, attempts=2)
    assert seen[0] == seen[1]


def test_a_result_comes_back_as_its_annotation_says_the_first_time_too() -> None:
    def france() -> Country:
        return Country("France", 68_000_000)

    def unannotated():  # type: ignore[no-untyped-def]  # noqa: ANN202
        return ("a", "tuple")

    @job()
    def looks(ctx: RunContext) -> None:
        assert ctx.step("typed", france) == Country("France", 68_000_000)
        assert ctx.step("plain", unannotated) == ["a", "tuple"]

    assert run_job(looks).status == "succeeded"


def test_a_structured_answer_is_a_model_of_pydantic() -> None:
    @job()
    def asks(ctx: RunContext) -> str:
        return ctx.ask("helper", "The capital of France?", Capital).city

    assert run_job(asks, model=ScriptedModel([Capital(city="Paris")])).result == "Paris"


def test_an_answer_that_does_not_fit_may_be_mended_once() -> None:
    @job()
    def asks(ctx: RunContext) -> str:
        return ctx.ask("helper", "The capital of France?", Capital).city

    assert run_job(asks, model=ScriptedModel(["Paris, of course!", {"city": "Paris"}])).result == "Paris"
    assert run_job(asks, model=ScriptedModel(["Paris!", "Paris!!"])).status == "failed"


def test_many_items_are_worked_on_at_a_time_and_come_back_in_their_order() -> None:
    @job()
    def maps(ctx: RunContext) -> list[str]:
        return ctx.map(lambda word: ctx.ask("helper", word), ["a", "b", "c"], concurrency=3)

    model = ScriptedModel(lambda request: request.messages[-1].content.upper())
    assert run_job(maps, model=model).result == ["A", "B", "C"]


def test_an_item_that_fails_stands_in_its_place() -> None:
    def root(number: float) -> float:
        if number < 0:
            raise ValueError("no root")
        return math.sqrt(number)

    @job()
    def maps(ctx: RunContext) -> None:
        one, two, three = ctx.map(root, [4, -1, 9], on_error="collect")
        assert (one, three) == (2, 3)
        assert isinstance(two, ItemError)
        assert two.item == -1

    assert run_job(maps).status == "succeeded"


def test_a_run_whose_every_item_failed_has_failed() -> None:
    @job()
    def maps(ctx: RunContext) -> str:
        ctx.map(int, ["a", "b"], on_error="collect")
        return "done"

    assert run_job(maps).status == "failed"


def test_an_items_answer_belongs_to_that_item_in_a_later_attempt_too() -> None:
    @job(retry=Retry(attempts=2))
    def maps(ctx: RunContext) -> list[str]:
        answers = ctx.map(lambda _number: ctx.ask("dice", "roll"), range(4), concurrency=4)
        if ctx.attempt == 1:
            seen.append(answers)
            raise ConnectionError
        return answers

    seen: list[list[str]] = []
    model = ScriptedModel(["one", "two", "three", "four"])
    assert run_job(maps, model=model, attempts=2).result == seen[0]
    assert len(model.requests) == 4
