"""Replies of any shape become a ChatReply or a clear complaint."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.chat import ToolCall
from taskpilot.domain.usage import Usage
from taskpilot.llm.wire import ReplyIsError, ReplyUnreadable, reply_of

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
        except (ReplyUnreadable, ReplyIsError):
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
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 9}}, None),
        ({"prompt_tokens": 5}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": -5, "completion_tokens": 2}, None),
        ({"prompt_tokens": "5", "completion_tokens": 2}, None),
        ({"prompt_tokens": 2**63, "completion_tokens": 2}, None),
        ({"prompt_tokens": 5.0, "completion_tokens": 2}, Usage(5, 0, 2)),
        ({"prompt_tokens": 5.5, "completion_tokens": 2}, None),
        ({"prompt_tokens": 5, "completion_tokens": -2}, None),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": "7"}, None),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": -7}, None),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": None}, Usage(5, 0, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 3}, Usage(5, 0, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 107}, Usage(5, 0, 102)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 100}}, Usage(5, 0, 102)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 2}}, Usage(5, 0, 2)),
        (
            {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 107, "completion_tokens_details": {"reasoning_tokens": 100}},
            Usage(5, 0, 102),
        ),
        ({"prompt_tokens": 5, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": "x"}}, None),
        ({"prompt_tokens": 5, "completion_tokens": 0}, None),
        ({"prompt_tokens": 30_000_000, "completion_tokens": 2}, None),
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
    assert reply_of(reply({"tool_calls": calls})).tool_calls == (ToolCall("", "f", '{"a": 1}'), ToolCall("x", "g", "{}"))


@pytest.mark.parametrize(("prompt", "known"), [(0, False), (1, False), (7, False), (8, True), (250, True)])
def test_fewer_tokens_than_any_tokenizer_makes_of_a_prompt_are_unknown(prompt: int, known: bool) -> None:
    body = reply({"content": "x"}, {"prompt_tokens": prompt, "completion_tokens": 1})
    assert (reply_of(body, sent=1_000).usage is not None) is known


@pytest.mark.parametrize(("output", "known"), [(1, False), (8, True)])
def test_fewer_tokens_than_any_tokenizer_makes_of_a_reply_are_unknown(output: int, known: bool) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": output}
    call = {"function": {"name": "f", "arguments": json.dumps({"a": "x" * 980})}}
    for message in ({"content": "x" * 1_000}, {"tool_calls": [call]}):
        assert (reply_of(reply(message, usage)).usage is not None) is known


def test_more_tokens_than_the_context_are_unknown() -> None:
    body = reply({"content": "x"}, {"prompt_tokens": 9_000, "completion_tokens": 1})
    assert [reply_of(body, tokens_max=most).usage is None for most in (9_000, 9_001)] == [True, False]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("stop", "stop"), ("length", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"), ("SAFETY", "content_filter"),
        (None, "stop"), ("", "stop"), (7, "stop"),
    ],
)  # fmt: skip
def test_the_reasons_of_other_servers_are_those_of_openai(given: Any, reason: str) -> None:
    assert reply_of(reply({"content": "x"}, finish_reason=given)).finish_reason == reason


def test_a_reply_without_a_reason_at_its_limit_was_cut_off() -> None:
    body = reply({"content": "x"}, {"prompt_tokens": 5, "completion_tokens": 100}, finish_reason=None)
    assert [reply_of(body, limit=limit).finish_reason for limit in (100, 101)] == ["length", "stop"]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("<think>hm</think>\n\nKiel", "Kiel"),
        ("hm\n</think>\n\nKiel", "Kiel"),
        ("hm, well.</think>\nKiel", "Kiel"),
        ("[THINK]hm[/THINK]Kiel", "Kiel"),
        ("<thought>\nhm</thought>\nKiel", "Kiel"),
        ("hm\n</think>", ""),
        ("Close it with </think> and go on.", "Close it with </think> and go on."),
        ("Write:\n<think>\nhm\n</think>\nKiel", "Write:\n<think>\nhm\n</think>\nKiel"),
    ],
)
def test_the_thought_in_front_of_a_text_is_left_out(said: str, answer: str) -> None:
    assert reply_of(reply({"content": said})).content == answer


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_a_whole_structured_reply_that_a_server_took_for_a_thought_is_read_and_a_real_thought_is_not(key: str) -> None:
    assert reply_of(reply({"content": None, key: '{"verdict": "APPROVE"}'})).content == '{"verdict": "APPROVE"}'
    for thought in ('I could say {"verdict": "APPROVE"}', ["x"], None):
        assert reply_of(reply({"content": None, key: thought})).content == ""
    assert reply_of(reply({"content": "No.", key: '{"verdict": "APPROVE"}'})).content == "No."
