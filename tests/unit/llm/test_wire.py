"""Replies of any shape become a ChatReply or a clear complaint."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.chat import ToolCall
from taskpilot.domain.usage import Usage
from taskpilot.llm.wire import ReplyUnreadable, reply_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "tool_calls", "function", "name", "arguments", "usage", "prompt_tokens", "id", "refusal"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def reply(message: Any, usage: Any = None, **choice: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, **choice}], "usage": usage}).encode()


@given(JSON, JSON)
def test_no_shape_of_a_reply_raises_anything_but_its_complaint(message: Any, usage: Any) -> None:
    for body in (json.dumps(message).encode(), reply(message, usage)):
        try:
            found = reply_of(body)
        except ReplyUnreadable:
            continue
        found.content.encode()
        assert all(isinstance(call.arguments, str) for call in found.tool_calls)


@given(st.binary(max_size=50))
def test_no_bytes_raise_anything_but_the_complaint(body: bytes) -> None:
    with pytest.raises(ReplyUnreadable):
        reply_of(body)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2}, Usage(5, 0, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(5, 0, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": None}}, Usage(5, 0, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(5, 9, 2)),
        ({"prompt_tokens": 5}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": -5, "completion_tokens": 2}, None),
        ({"prompt_tokens": "5", "completion_tokens": 2}, None),
        ({"prompt_tokens": 2**63, "completion_tokens": 2}, None),
        ("many", None),
        (None, None),
    ],
)
def test_usage_is_what_was_reported_or_unknown(usage: Any, expected: Usage | None) -> None:
    assert reply_of(reply({"content": "x"}, usage)).usage == expected


def test_odd_but_readable_replies_are_read() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert reply_of(reply({"content": parts})).content == "ab"
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"id": "x", "function": {"name": "g"}}]
    assert reply_of(reply({"tool_calls": calls})).tool_calls == (ToolCall("call_0", "f", '{"a": 1}'), ToolCall("x", "g", "{}"))
