"""What a call may cost at worst, and what it did cost."""

from datetime import datetime

from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.budget import Spending
from taskpilot.domain.chat import ChatRequest, Message, OutputSchema, Role, ToolCall, ToolSchema
from taskpilot.domain.times import utc_now
from taskpilot.domain.usage import Usage

ASKED: list[tuple[str, Usage, datetime]] = []


def price(model: str, usage: Usage, at: datetime) -> int | None:
    ASKED.append((model, usage, at))
    return None if model == "home-made" else usage.input * 3 + usage.output * 11


def request(text: str = "hello", **more: object) -> ChatRequest:
    return ChatRequest(agent="a", messages=(Message(Role.USER, text),), **more)  # type: ignore[arg-type]


@freeze_time("2026-11-23T12:00:00Z")
def test_the_worst_case_is_priced_at_its_moment_with_the_whole_output_limit() -> None:
    reservation = Spending("m", price).worst_case(request(max_output_tokens=100), utc_now())
    model, usage, at = ASKED[-2]
    assert (model, usage.output, usage.cached_input, at.isoformat()) == ("m", 100, 0, "2026-11-23T12:00:00+00:00")
    assert reservation.cost_nano == usage.input * 3 + 1100
    assert (reservation.tokens, reservation.llm_calls, reservation.tool_calls) == (usage.total, 1, 0)


def test_a_cached_price_above_the_input_price_is_the_worst_case() -> None:
    def dear(_model: str, usage: Usage, _at: datetime) -> int:
        return usage.input - usage.cached_input + usage.cached_input * 5

    reservation = Spending("m", dear).worst_case(request(), utc_now())
    assert reservation.cost_nano == (reservation.tokens - 4096) * 5


def test_a_model_without_a_price_is_held_by_tokens_and_calls() -> None:
    reservation = Spending("home-made", price).worst_case(request(), utc_now())
    assert reservation.cost_nano is None
    assert reservation.tokens > 4096


def test_no_usage_is_an_unknown_cost_and_not_zero() -> None:
    assert Spending("m", price).cost(None, utc_now()) is None
    assert Spending("m", price).cost(Usage(), utc_now()) == 0
    assert Spending("home-made", price).cost(Usage(1, 0, 1), utc_now()) is None


@given(st.text(), st.text(), st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)))
def test_no_part_of_a_request_is_forgotten(first: str, second: str, name: str) -> None:
    first, second = (text.encode("utf-8", "replace").decode() for text in (first, second))
    spending = Spending("m", price)

    def tokens(**more: object) -> int:
        return spending.worst_case(request(first, **more), utc_now()).tokens

    plain = tokens()
    assert plain >= len(first.encode()) + 4096
    call = ToolCall("call-1", name, second)
    said = (Message(Role.USER, first), Message(Role.ASSISTANT, "", tool_calls=(call,)), Message(Role.TOOL, second, tool_call_id="call-1"))
    conversation = spending.worst_case(ChatRequest(agent="a", messages=said), utc_now()).tokens
    assert conversation >= plain + len(second.encode()) * 2 + len(name.encode())
    tool = ToolSchema("act", second, {"type": "object"})
    assert tokens(tools=(tool,)) >= plain + len("act") + len(second.encode())
    assert tokens(output=OutputSchema("Answer", {"title": second})) >= plain + len(second.encode())
