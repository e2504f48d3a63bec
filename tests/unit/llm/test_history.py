"""A conversation in which a model got something wrong goes back in a form that strict servers take."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.chat import Message, Role, ToolCall
from taskpilot.llm.history import sent_messages


def conversation(*rounds: list[ToolCall]) -> list[Message]:
    messages = [Message(Role.SYSTEM, "You work."), Message(Role.USER, "Do it.")]
    for calls in rounds:
        messages.append(Message(Role.ASSISTANT, "", tool_calls=tuple(calls)))
        messages += [Message(Role.TOOL, f"result {number}", tool_call_id=call.id) for number, call in enumerate(calls)]
    return messages


def check_strictly(messages: list[dict[str, Any]]) -> None:
    """What one or another server checks before it reads a request."""
    ids: list[str] = []
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == open_calls.pop(0)
            assert message["content"]
            continue
        assert open_calls == []
        for call in message.get("tool_calls", ()):
            function = call["function"]
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", function["name"])
            assert isinstance(json.loads(function["arguments"], parse_constant=lambda _: 1 / 0), dict)
            assert re.fullmatch(r"[!-~]{1,40}", call["id"])
            assert call["id"] not in ids
            ids.append(call["id"])
            open_calls.append(call["id"])
    json.dumps(messages, ensure_ascii=False).encode()


ANYTHING = st.text(max_size=8) | st.sampled_from(["", "call_1", "functions.look_up:0", "{}", '{"a": 1}', "[1]", "null", "x" * 99])
CALLS = st.lists(st.builds(ToolCall, id=ANYTHING, name=ANYTHING, arguments=ANYTHING), min_size=1, max_size=4)


@given(st.lists(CALLS, max_size=4))
def test_whatever_a_model_wrote_a_strict_server_takes_it(rounds: list[list[ToolCall]]) -> None:
    sent = sent_messages(conversation(*rounds))
    check_strictly(sent)
    results = [message["content"] for message in sent if message["role"] == "tool"]
    assert results == [f"result {number}" for calls in rounds for number in range(len(calls))]
    assert sent == sent_messages(conversation(*rounds))


@pytest.mark.parametrize(
    "arguments",
    ['{"title": "He said "now""}', '{"a": 1,}', "", "null", "[1]", '"{}"', '{"a": NaN}', "{" * 5_000, "{'a': 1}", '{"a": 1}{"b": 2}'],
)
def test_arguments_that_are_no_json_object_become_an_empty_one(arguments: str) -> None:
    sent = sent_messages(conversation([ToolCall("1", "f", arguments)]))
    assert sent[2]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_what_is_right_is_sent_as_it_was_written() -> None:
    calls = [ToolCall("functions.f:0", "f", '{ "a" : 1.0 }'), ToolCall("call_abc", "g-1", '{"ü": "ö"}')]
    sent = sent_messages(conversation(calls))
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in sent[2]["tool_calls"]] == [
        (call.id, call.name, call.arguments) for call in calls
    ]


@pytest.mark.parametrize("ids", [["a", "a"], ["", ""], ["x" * 41, "y" * 41], ["a b", "ä"]])
def test_an_id_that_cannot_be_used_is_replaced_by_one_that_mistral_takes_too(ids: list[str]) -> None:
    sent = sent_messages(conversation([ToolCall(one, "f", "{}") for one in ids]))
    assert re.fullmatch(r"[a-z0-9]{9}", sent[2]["tool_calls"][1]["id"])


@pytest.mark.parametrize(
    ("name", "sent_name"),
    [("create_task<|channel|>commentary", "create_task"), ("functions.create_task", "functions_create_task"), ("", "unnamed")],
)
def test_the_name_of_a_tool_is_cleaned(name: str, sent_name: str) -> None:
    assert sent_messages(conversation([ToolCall("1", name, "{}")]))[2]["tool_calls"][0]["function"]["name"] == sent_name


def test_blank_texts_are_not_sent_where_servers_refuse_them() -> None:
    call = ToolCall("1", "f", "{}")
    messages = [
        Message(Role.ASSISTANT, " \n", tool_calls=(call,)),
        Message(Role.TOOL, "", tool_call_id="1"),
        Message(Role.ASSISTANT, ""),
    ]
    assert [message["content"] for message in sent_messages(messages)] == [None, "(empty)", "(empty)"]
