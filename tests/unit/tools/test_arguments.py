"""A model's raw text becomes arguments of one canonical form, or a short message that a model can act on."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from taskpilot.domain.errors import ToolArgumentsInvalid
from taskpilot.domain.tasks import Priority
from taskpilot.tools import create_task_tool, invoke, parse_arguments, tool, tool_spec


class Place(BaseModel):
    street: str
    number: int = 1


@tool
def everything(
    when: datetime, price: Decimal, folder: Path, tags: set[str], place: Place, mode: str = "dry", more: Any = None
) -> dict[str, Any]:
    """Take many types."""
    kinds = {
        name: type(value).__name__ for name, value in {"when": when, "price": price, "folder": folder, "tags": tags, "place": place}.items()
    }
    return kinds | {"mode": mode, "more": more}


@tool
def measure(value: float, count: int = 0, flag: bool = False) -> str:
    """Take numbers."""
    return f"{value}{count}{flag}"


EVERYTHING = tool_spec(everything)
MEASURE = tool_spec(measure)
CREATE = create_task_tool(lambda *parts: "|".join(parts))
GOOD = {"when": "2026-11-23T08:00:00Z", "price": "1.10", "folder": "/tmp/x", "tags": ["a"], "place": {"street": "s"}}


def test_raw_text_becomes_canonical_arguments_with_defaults_filled_in() -> None:
    parsed = parse_arguments(CREATE, ' {"priority": "high", "title": "  Renew  "} ')
    assert parsed == {"title": "  Renew  ", "priority": "high", "description": ""}
    assert invoke(CREATE, parsed) == "Renew|high|"


def test_types_go_to_json_and_come_back_as_types() -> None:
    parsed = parse_arguments(EVERYTHING, json.dumps(GOOD))
    assert parsed == GOOD | {"place": {"street": "s", "number": 1}, "mode": "dry", "more": None}
    assert invoke(EVERYTHING, parsed)["when"] == "datetime"
    assert invoke(EVERYTHING, parsed)["tags"] == "set"
    assert parse_arguments(EVERYTHING, parsed) == parsed


def test_a_jobs_own_values_take_the_same_form() -> None:
    values = {"when": datetime(2026, 11, 23, 8, tzinfo=UTC), "price": Decimal("1.10"), "folder": Path("/tmp/x")}
    parsed = parse_arguments(EVERYTHING, values | {"tags": {"a"}, "place": Place(street="s")})
    assert parsed == parse_arguments(EVERYTHING, json.dumps(GOOD))


def test_an_enum_of_the_deployment_is_a_priority() -> None:
    parsed = parse_arguments(CREATE, {"title": "t", "priority": Priority.HIGH})
    assert parsed["priority"] == "high"
    assert type(parsed["priority"]) is str


def test_no_text_is_an_empty_object() -> None:
    @tool
    def ping() -> str:
        """Ping."""
        return "pong"

    assert parse_arguments(tool_spec(ping), "") == {}
    assert invoke(tool_spec(ping), {}) == "pong"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "one JSON object"),
        ("null", "one JSON object"),
        ('"{}"', "one JSON object"),
        ("{}", "title: Field required; priority: Field required"),
        ('{"title": "t", "priority": "urgent"}', "priority: Input should be 'high', 'medium' or 'low'"),
        ('{"title": 7, "priority": "low"}', "title: Input should be a valid string"),
        ('{"title": "t", "priority": "low", "url": "http://x"}', "url: Extra inputs are not permitted"),
        ('{"title": "t", "priority": "low", "title": "u"}', "a key is repeated"),
        ('{"title": "\\ud800", "priority": "low"}', "half a surrogate pair"),
        ('{"title": "\ud800", "priority": "low"}', "half a surrogate pair"),
        ('{"title": "' + "x" * 70_000 + '", "priority": "low"}', "larger than 64 kB"),
        ('{"title": "' + "é" * 40_000 + '", "priority": "low"}', "larger than 64 kB"),
        ('{"title": ' + "[" * 40 + "]" * 40 + "}", "deeper than 16"),
        ("[" * 30_000, "deeper than 16"),
        ('{"title": ' + "9" * 5_000 + "}", "not JSON"),
        ('{"title": NaN}', "NaN is not a number"),
        ("{'title': 't'}", "not JSON"),
        ('{"title": "a\nb"}', "not JSON"),
    ],
)
def test_nonsense_is_refused_with_a_message_for_the_model(text: str, words: str) -> None:
    with pytest.raises(ToolArgumentsInvalid) as caught:
        parse_arguments(CREATE, text)
    message = str(caught.value)
    assert message.startswith("the arguments do not fit create_task: ")
    assert words in message
    assert len(message) < 1_200
    assert "\n" not in message


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "1e999", '"nan"', '"inf"'])
def test_numbers_are_finite(value: str) -> None:
    with pytest.raises(ToolArgumentsInvalid):
        parse_arguments(MEASURE, f'{{"value": {value}}}')


@pytest.mark.parametrize(
    "more", [math.nan, object(), {"a": math.inf}, b"\xff", "\ud800"], ids=["nan", "object", "inf", "bytes", "surrogate"]
)
def test_a_jobs_value_that_is_not_json_is_refused(more: Any) -> None:
    with pytest.raises(ToolArgumentsInvalid):
        parse_arguments(EVERYTHING, GOOD | {"more": more})


def test_a_loop_in_a_jobs_value_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ToolArgumentsInvalid):
        parse_arguments(EVERYTHING, GOOD | {"more": loop})


def test_a_value_that_hides_itself_in_json_is_refused() -> None:
    @tool
    def login(password: SecretStr) -> str:
        """Log in."""
        return password.get_secret_value()

    with pytest.raises(ToolArgumentsInvalid, match="changes when it is written as JSON"):
        parse_arguments(tool_spec(login), '{"password": "p"}')


def test_messages_do_not_repeat_what_was_refused() -> None:
    with pytest.raises(ToolArgumentsInvalid) as caught:
        parse_arguments(MEASURE, '{"value": "hunter2", "\\u001b[31mkey": 1}')
    assert "hunter2" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@given(
    text=st.text()
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)).map(
        json.dumps
    )
)
def test_any_text_parses_or_is_refused_in_words(text: str) -> None:
    try:
        parsed = parse_arguments(CREATE, text)
    except ToolArgumentsInvalid:
        return
    assert set(parsed) == {"title", "priority", "description"}


@given(title=st.text(st.characters(codec="utf-8"), max_size=50), priority=st.sampled_from(["high", "medium", "low"]))
def test_what_policy_sees_is_what_the_tool_gets(title: str, priority: Literal["high", "medium", "low"]) -> None:
    seen: list[tuple[str, str, str]] = []

    def file_task(*parts: str) -> str:
        seen.append((parts[0], parts[1], parts[2]))
        return "filed"

    spec = create_task_tool(file_task)
    parsed = parse_arguments(spec, json.dumps({"title": title, "priority": priority}))
    assert parse_arguments(spec, parsed) == parsed
    assert invoke(spec, parsed) == "filed"
    assert seen == [(parsed["title"].strip(), parsed["priority"], parsed["description"])]
