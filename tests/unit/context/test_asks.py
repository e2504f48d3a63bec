"""Questions to a model: reserved, journaled, asked, settled; and replies held to their shape."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from taskpilot import Budget, ModelRefused, ModelUnavailable, ReplyInvalid, Retry, RunContext, job
from taskpilot.domain.chat import ChatReply, ChatRetry
from taskpilot.domain.errors import StoreBusy
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.domain.usage import Usage
from taskpilot.testing import ScriptedModel, run_job, tool_call
from tests.spine import Killed, Spine


class Answer(BaseModel):
    number: int


@job(name="asks")
def asks(ctx: RunContext) -> str:
    """Ask once."""
    return ctx.ask("helper", "What is it?")


@job(name="counts")
def counts(ctx: RunContext) -> int:
    """Ask for a number."""
    return ctx.ask("helper", "How many?", Answer).number


def test_a_text_comes_back_as_it_was_said() -> None:
    model = ScriptedModel(["It is a cat."])
    ran = run_job(asks, model=model)
    assert ran.result == "It is a cat."
    assert [message.content for message in model.requests[0].messages] == ["What is it?"]


def test_a_structured_reply_is_the_pydantic_model() -> None:
    assert run_job(counts, model=ScriptedModel([{"number": 7}])).result == 7


@pytest.mark.parametrize(
    "bad",
    ["seven", "{}", '{"number": "x"}', '{"number": 1', ChatReply('{"number": 7}', finish_reason="length"), ChatReply("", refusal="no")],
)
def test_an_unusable_reply_is_mended_once(bad: Any) -> None:
    model = ScriptedModel([bad, {"number": 8}])
    assert run_job(counts, model=model).result == 8
    assert "cannot be used" in model.requests[1].messages[-1].content


def test_two_unusable_replies_are_an_error() -> None:
    model = ScriptedModel(["seven", "eight"])
    ran = run_job(counts, model=model)
    assert ran.status is RunStatus.FAILED
    assert ran.reason_facts["error_type"] == "ReplyInvalid"
    assert len(model.requests) == 2


def test_a_refusal_of_a_text_is_an_error_and_never_an_answer() -> None:
    assert "refused" in run_job(asks, model=ScriptedModel([ChatReply("", refusal="I will not")])).reason


PARTS = {
    "cut off at the output limit": ChatReply("First, the backup of", finish_reason="length"),
    "cut off by the server's filter": ChatReply("First, the", finish_reason="content_filter"),
    "the reply is empty": ChatReply(" \n"),
}


@pytest.mark.parametrize("why", PARTS)
def test_a_part_of_a_text_is_an_error_that_says_why(why: str) -> None:
    ran = run_job(asks, model=ScriptedModel([PARTS[why]]))
    assert (ran.status, ran.result, ran.reason_facts["error_type"]) == (RunStatus.FAILED, None, "ReplyInvalid")
    assert why in ran.reason
    assert "allow_partial=True" in ran.reason


@pytest.mark.parametrize("why", PARTS)
def test_a_part_of_a_text_is_taken_where_the_job_asks_for_it(why: str) -> None:
    @job()
    def takes(ctx: RunContext) -> str:
        return ctx.ask("a", "one", allow_partial=True)

    assert run_job(takes, model=ScriptedModel([PARTS[why]])).result == PARTS[why].content


@pytest.mark.parametrize("why", PARTS)
def test_the_repair_turn_says_why_a_part_cannot_be_used(why: str) -> None:
    model = ScriptedModel([PARTS[why], {"number": 8}])
    assert run_job(counts, model=model).result == 8
    assert why in model.requests[1].messages[-1].content


def test_a_refusal_is_no_part_and_a_structured_reply_has_none() -> None:
    @job()
    def takes(ctx: RunContext, shaped: bool = False) -> object:
        return ctx.ask("a", "one", Answer, allow_partial=True) if shaped else ctx.ask("a", "one", allow_partial=True)  # type: ignore[call-overload]

    assert "I will not" in run_job(takes, model=ScriptedModel([ChatReply("", refusal="I will not")])).reason
    assert "allow_partial is for a text" in run_job(takes, model=ScriptedModel([]), parameters={"shaped": True}).reason


@pytest.mark.parametrize("shaped", [False, True])
def test_a_reply_that_could_not_be_used_is_asked_for_again_by_the_next_attempt(shaped: bool) -> None:
    @job(retry=Retry(attempts=2))
    def again(ctx: RunContext) -> object:
        return ctx.ask("a", "one", Answer) if shaped else ctx.ask("a", "one")

    model = ScriptedModel(["seven", "eight", {"number": 7}] if shaped else ["", "a cat"])
    assert run_job(again, model=model, attempts=2).status is RunStatus.SUCCEEDED
    assert len(model.requests) == (3 if shaped else 2)


def test_a_repaired_reply_is_not_paid_again(spine: Spine) -> None:
    @job(retry=Retry(attempts=2))
    def asks_twice(ctx: RunContext) -> int:
        number = ctx.ask("a", "one", Answer).number
        if ctx.attempt == 1:
            raise Killed
        return number

    ran = spine.resume(asks_twice, spine.killed(asks_twice, ScriptedModel(["seven", {"number": 7}])), ScriptedModel([]))
    assert (ran.run.result, ran.run.spend.llm_calls) == (7, 2)


def test_the_output_limit_of_the_settings_is_asked_for() -> None:
    model = ScriptedModel(["fine"])
    run_job(asks, model=model, settings="[openai]\nmax_output_tokens = 700")
    assert model.requests[0].max_output_tokens == 700


def test_a_recorded_answer_is_not_paid_again(spine: Spine) -> None:
    @job(retry=Retry(attempts=2))
    def twice(ctx: RunContext) -> list[str]:
        said = [ctx.ask("a", "one")]
        if ctx.attempt == 1:
            raise Killed
        return [*said, ctx.ask("a", "two")]

    first, second = ScriptedModel(["first"], usage=Usage(100, 40, 7)), ScriptedModel(["second"], usage=Usage(1, 0, 1))
    ran = spine.resume(twice, spine.killed(twice, first), second)
    assert ran.run.result == ["first", "second"]
    assert [len(first.requests), len(second.requests)] == [1, 1]
    assert ran.run.spend.usage == Usage(101, 40, 8)
    assert ran.run.spend.llm_calls == 2


def test_an_answer_with_half_a_character_is_the_same_in_every_attempt(spine: Spine) -> None:
    @job(retry=Retry(attempts=2))
    def echoes(ctx: RunContext) -> str:
        said = ctx.ask("a", "one")
        said = ctx.ask("b", f"You said {said}")
        if ctx.attempt == 1:
            raise Killed
        return said

    ran = spine.resume(echoes, spine.killed(echoes, ScriptedModel(["\ud83d hm", "ok"])), ScriptedModel([]))
    assert ran.run.status is RunStatus.SUCCEEDED


def test_a_prompt_with_half_a_character_is_asked_without_it() -> None:
    @job()
    def asks_badly(ctx: RunContext) -> str:
        return ctx.ask("a", "\ud83d is broken", system="\udc00 too")

    model = ScriptedModel(["fine"])
    assert run_job(asks_badly, model=model).result == "fine"
    for message in model.requests[0].messages:
        message.content.encode("utf-8")


def test_a_call_whose_answer_was_lost_is_unknown_at_its_worst_case_and_is_asked_anew(spine: Spine) -> None:
    def die(_request: Any) -> str:
        raise Killed

    run_id = spine.killed(asks, ScriptedModel(die, name="gpt-4o-mini"))
    (step,) = spine.steps(run_id)
    assert step.status is StepStatus.UNKNOWN
    assert step.reserved_nano is not None
    assert step.cost_nano == step.reserved_nano > 0
    row = spine.row(run_id)
    assert (row.reserved_nano, row.reserved_tokens, row.spent_nano, row.cost_nano) == (0, 0, step.reserved_nano, step.reserved_nano)
    assert (row.input_tokens, row.output_tokens) == (0, 0)
    assert spine.resume(asks, run_id, ScriptedModel(["a cat"])).run.result == "a cat"
    assert [one.status for one in spine.steps(run_id)] == [StepStatus.UNKNOWN, StepStatus.SUCCEEDED]
    assert spine.row(run_id).llm_calls == 2


def test_the_cost_of_a_call_is_that_of_its_usage_and_the_totals_agree(spine: Spine) -> None:
    model = ScriptedModel(["a cat"], name="gpt-4o", usage=Usage(input=1200, cached_input=1024, output=30))
    ran = spine.run(asks, model)
    assert ran.run.spend.cost_nano == 2_020_000
    row = spine.row(ran.run.id)
    assert (row.spent_nano, row.reserved_nano, row.spent_tokens, row.reserved_tokens) == (2_020_000, 0, 1230, 0)
    assert spine.total("taskpilot_llm_cost_usd_total") == {'{"agent":"helper","model":"gpt-4o"}': 2_020_000}
    assert sorted(spine.total("taskpilot_llm_tokens_total").values()) == [30, 1024, 1200]


def test_a_model_without_a_price_has_an_unknown_cost_and_is_counted(spine: Spine) -> None:
    ran = spine.run(asks, ScriptedModel(["a cat"], name="home-made"))
    assert ran.run.spend.cost_nano is None
    assert spine.total("taskpilot_llm_unpriced_calls_total") == {'{"model":"home-made"}': 1}


def test_an_answer_without_usage_keeps_its_reservation_in_the_budget(spine: Spine) -> None:
    class Silent(ScriptedModel):
        def _reply(self, reply: Any) -> ChatReply:
            return ChatReply(str(reply))

    ran = spine.run(asks, Silent(["a cat"], name="gpt-4o"))
    (step,) = spine.steps(ran.run.id)
    row = spine.row(ran.run.id)
    assert ran.run.spend.cost_nano is None
    assert (row.spent_nano, row.spent_tokens) == (step.reserved_nano, step.reserved_tokens)
    assert row.reserved_nano == row.reserved_tokens == 0


def test_a_try_whose_answer_was_lost_before_the_one_that_came_costs_its_worst_case(spine: Spine) -> None:
    lost = ChatRetry("timeout", 0.5, maybe_billed=True)
    plain = ChatRetry("rate_limit", 0.5)
    reply = ChatReply("a cat", usage=Usage(1200, 1024, 30), retries=(lost, plain))
    ran = spine.run(asks, ScriptedModel([reply], name="gpt-4o"))
    (step,) = spine.steps(ran.run.id)
    assert step.cost_nano == 2_020_000 + (step.reserved_nano or 0)
    assert ran.run.spend.cost_nano == step.cost_nano
    assert step.retries == ("timeout", "rate_limit")
    assert spine.total("taskpilot_llm_cost_usd_total") == {'{"agent":"helper","model":"gpt-4o"}': step.cost_nano}


def test_an_unreachable_provider_ends_with_75_and_costs_nothing(spine: Spine) -> None:
    ran = spine.run(asks, ScriptedModel([ModelUnavailable("away")], name="gpt-4o"))
    assert (ran.run.status, ran.run.reason.code) == (RunStatus.FAILED, ReasonCode.PROVIDER_UNREACHABLE)
    assert ran.run.spend.cost_nano == 0
    assert [step.status for step in spine.steps(ran.run.id)] == [StepStatus.FAILED]
    assert spine.row(ran.run.id).reserved_nano == 0


def test_a_failed_question_is_asked_anew(spine: Spine) -> None:
    first = spine.run(asks, ScriptedModel([ModelRefused("no")]))
    assert first.run.status is RunStatus.FAILED
    assert spine.resume(asks, first.run.id, ScriptedModel(["yes"])).run.result == "yes"


def test_another_question_at_a_recorded_place_is_asked_and_marked_as_diverged(spine: Spine) -> None:
    @job(retry=Retry(attempts=2))
    def changes(ctx: RunContext) -> str:
        said = ctx.ask("a", f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise Killed
        return said

    ran = spine.resume(changes, spine.killed(changes, ScriptedModel(["one"])), ScriptedModel(["two"]))
    assert ran.run.result == "two"
    assert [step.diverged for step in spine.steps(ran.run.id, StepKind.ASK)] == [False, True]


def test_another_model_gets_the_recorded_answers_of_the_first(spine: Spine) -> None:
    @job(retry=Retry(attempts=2))
    def twice(ctx: RunContext) -> str:
        said = ctx.ask("a", "one")
        if ctx.attempt == 1:
            raise Killed
        return said

    ran = spine.resume(twice, spine.killed(twice, ScriptedModel(["one"], name="m1")), ScriptedModel([], name="m2"))
    assert ran.run.result == "one"


def test_a_stop_at_the_budget_is_made_before_the_call_and_keeps_what_was_paid(spine: Spine) -> None:
    @job(budget=Budget(tokens=5000))
    def greedy(ctx: RunContext) -> None:
        for number in range(9):
            ctx.ask("a", f"question {number}")

    model = ScriptedModel(lambda _request: "x", usage=Usage(400, 0, 100))
    ran = spine.run(greedy, model)
    assert ran.run.status is RunStatus.BUDGET_EXCEEDED
    assert len(model.requests) == 2
    assert spine.row(ran.run.id).spent_tokens == 1000
    assert spine.row(ran.run.id).reserved_tokens == 0


def test_a_swallowed_budget_stop_stops_the_run_all_the_same() -> None:
    @job(budget=Budget(llm_calls=1))
    def swallows(ctx: RunContext) -> str:
        try:
            ctx.ask("a", "one")
            ctx.ask("a", "two")
        except BaseException:
            return "fine"
        return "never"

    assert run_job(swallows, model=ScriptedModel(["1", "2"])).exit_code == 12


def test_the_tokens_of_an_agent_are_counted_once_the_reply_is_recorded(spine: Spine) -> None:
    ran = spine.run(counts, ScriptedModel(["nonsense", {"number": 3}], usage=Usage(10, 0, 5)))
    assert ran.run.spend.usage == Usage(20, 0, 10)
    assert spine.total("taskpilot_agent_invocations_total") == {'{"agent":"helper","status":"succeeded"}': 1}
    assert spine.total("taskpilot_llm_calls_total") == {'{"model":"scripted","status":"succeeded"}': 2}


def test_an_effect_that_could_not_be_recorded_fails_the_run_even_where_the_job_goes_on(spine: Spine) -> None:
    @job()
    def collects(ctx: RunContext) -> str:
        journal = ctx._session.journal
        recording = journal.end_ask
        calls = iter([True, False])

        def end_ask(*args: Any, **keywords: Any) -> None:
            if next(calls):
                with journal._loudly():
                    raise StoreBusy("locked")
            recording(*args, **keywords)

        journal.end_ask = end_ask  # type: ignore[method-assign]
        ctx.map(lambda text: ctx.ask("a", text), ["one", "two"], on_error="collect")
        return "fine"

    ran = spine.run(collects, ScriptedModel(["1", "2"]))
    assert ran.run.status is RunStatus.FAILED


def test_a_tool_call_in_a_reply_to_a_text_question_is_no_answer_to_act_on() -> None:
    ran = run_job(asks, model=ScriptedModel([[tool_call("notify", channel="x", message="y")]]))
    assert ran.steps[0].kind is StepKind.ASK
    assert [step.status for step in ran.steps] == [StepStatus.SUCCEEDED, StepStatus.DENIED]


def test_json_in_a_fence_is_read() -> None:
    assert run_job(counts, model=ScriptedModel([f"```json\n{json.dumps({'number': 4})}\n```"])).result == 4


def test_a_reply_that_does_not_fit_says_where() -> None:
    ran = run_job(counts, model=ScriptedModel(['{"number": []}', '{"number": []}']))
    assert "number" in ran.reason
    assert ran.reason_facts["error_type"] == ReplyInvalid.__name__
