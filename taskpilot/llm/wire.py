"""Chat completions as JSON: the request, and the reply, which is not trusted."""

import json
from typing import Any, Final

from taskpilot.domain.chat import ChatReply, ChatRequest, Message, Role, ToolCall
from taskpilot.domain.text import storable
from taskpilot.domain.usage import Usage
from taskpilot.llm.schemas import relaxed_schema

_TOKENS_MAX: Final = 2**40
"""No call has more tokens; a larger figure is an error of the server and would overflow sums in the store."""


class ReplyUnreadable(Exception):
    """A reply is not a valid chat completion; the message says what is wrong."""


def payload_of(request: ChatRequest, *, model: str, limit_key: str) -> dict[str, Any]:
    """The body of a request, without a structured output."""
    payload: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        limit_key: request.max_output_tokens,
    }
    if request.tools:
        payload["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": storable(tool.description), "parameters": relaxed_schema(tool.parameters)},
            }
            for tool in request.tools
        ]
        payload["tool_choice"] = "auto"
    return payload


def _message(message: Message) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": str(message.role), "content": storable(message.content)}
    if message.tool_calls:
        sent["content"] = sent["content"] or None
        sent["tool_calls"] = [
            {"id": storable(call.id), "type": "function", "function": {"name": storable(call.name), "arguments": storable(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL:
        sent["tool_call_id"] = storable(message.tool_call_id or "")
    return sent


def reply_of(body: bytes) -> ChatReply:
    """The reply in a body. Raises ReplyUnreadable."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise ReplyUnreadable("its reply is not JSON") from None
    if not isinstance(answer, dict):
        raise ReplyUnreadable("its reply is not a JSON object")
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ReplyUnreadable("its reply has no choices")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise ReplyUnreadable("its reply has no message")
    calls = message.get("tool_calls")
    tool_calls = tuple(_tool_call(call, number) for number, call in enumerate(calls)) if isinstance(calls, list) else ()
    finish_reason = choices[0].get("finish_reason")
    refusal = message.get("refusal")
    return ChatReply(
        content=_text(message.get("content")),
        tool_calls=tool_calls,
        finish_reason=storable(finish_reason)[:64] if isinstance(finish_reason, str) else "stop",
        refusal=storable(refusal) if isinstance(refusal, str) and refusal else None,
        usage=_usage(answer.get("usage")),
    )


def _tool_call(call: Any, number: int) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ReplyUnreadable("its reply has a tool call without a name")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        # Some servers give the object itself instead of its text.
        arguments = "{}" if arguments is None else json.dumps(arguments)
    call_id = call.get("id")
    return ToolCall(
        id=storable(call_id) if isinstance(call_id, str) and call_id else f"call_{number}",
        name=storable(function["name"]),
        arguments=storable(arguments),
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return storable(content) if isinstance(content, str) else ""


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    try:
        return Usage(
            input=_count(usage.get("prompt_tokens")), cached_input=_count(cached or 0), output=_count(usage.get("completion_tokens"))
        )
    except ReplyUnreadable:
        return None


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _TOKENS_MAX:
        raise ReplyUnreadable("a count of tokens is not valid")
    return value
