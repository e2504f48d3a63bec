"""Chat completions as JSON: the request, and the reply, which is not trusted."""

import json
from typing import Any, Final

from taskpilot.domain.chat import ChatReply, ChatRequest, ToolCall
from taskpilot.domain.text import storable
from taskpilot.domain.usage import Usage
from taskpilot.llm.history import sent_messages
from taskpilot.llm.schemas import relaxed_schema
from taskpilot.llm.structured import json_text, without_thought

TOKENS_MAX: Final = 20_000_000
"""More than the context of any known model."""
_BYTES_PER_TOKEN_MAX: Final = 128
"""No usual tokenizer puts more into one token, blanks included: fewer tokens than that for a text are not its real number."""
_FINISH_REASONS: Final = {
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
    "safety": "content_filter",
}
"""Other servers' words for those of OpenAI."""


class ReplyUnreadable(Exception):
    """A reply is not a valid chat completion; the message says what is wrong."""


class ReplyIsError(Exception):
    """A server's error in a reply whose HTTP status says success."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__()
        self.body = body
        code = body.get("code")
        self.status = code if type(code) is int and 400 <= code < 600 else None


def payload_of(request: ChatRequest, *, model: str, limit_key: str) -> dict[str, Any]:
    """The body of a request, without a structured output."""
    payload: dict[str, Any] = {
        "model": model,
        "messages": sent_messages(request.messages),
        # Some servers stream unless they are told not to.
        "stream": False,
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


def reply_of(body: bytes, *, sent: int = 0, limit: int = TOKENS_MAX, tokens_max: int = TOKENS_MAX) -> ChatReply:
    """The reply in a body. Raises ReplyUnreadable or ReplyIsError.

    `sent` is the number of bytes of the messages, `limit` that of the tokens that were asked for; no usage is above `tokens_max`.
    """
    choice = _choice(body)
    answer, message = choice["answer"], choice["message"]
    calls = message.get("tool_calls")
    tool_calls = tuple(map(_tool_call, calls)) if isinstance(calls, list) else ()
    said = _text(message.get("content"))
    content = without_thought(said)
    if not content.strip() and not tool_calls:
        content = _answer_in_thought(message) or content
    received = len(said.encode()) + sum(len(call.arguments.encode()) for call in tool_calls)
    usage = _usage(answer.get("usage"), sent=sent, received=received, tokens_max=tokens_max)
    refusal = message.get("refusal")
    return ChatReply(
        content=content,
        tool_calls=tool_calls,
        finish_reason=_finish_reason(choice["finish_reason"], cut=usage is not None and usage.output >= limit),
        refusal=storable(refusal) if isinstance(refusal, str) and refusal else None,
        usage=usage,
    )


def _choice(body: bytes) -> dict[str, Any]:
    """The first choice, checked: its message and why it ended, with the whole answer."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        streamed = body.lstrip().startswith((b"data:", b"event:"))
        raise ReplyUnreadable("its reply is a stream, although none was asked for" if streamed else "its reply is not JSON") from None
    if not isinstance(answer, dict):
        raise ReplyUnreadable("its reply is not a JSON object")
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = first.get("error") or (None if first else answer.get("error"))
    if error:
        raise ReplyIsError(error if isinstance(error, dict) else {"message": error})
    if not first:
        raise ReplyUnreadable("its reply has no choices")
    if not isinstance(first.get("message"), dict):
        raise ReplyUnreadable("its reply has no message")
    return {"answer": answer, "message": first["message"], "finish_reason": first.get("finish_reason")}


def _finish_reason(given: Any, *, cut: bool) -> str:
    if not isinstance(given, str) or not given:
        return "length" if cut else "stop"
    word = storable(given)[:64].lower()
    return _FINISH_REASONS.get(word, word)


def _answer_in_thought(message: dict[str, Any]) -> str | None:
    """Some servers take a whole structured reply for a thought."""
    thoughts = (_text(message.get(key)) for key in ("reasoning_content", "reasoning"))
    return next((text for thought in thoughts if (text := json_text(thought)).startswith("{")), None)


def _tool_call(call: Any) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ReplyUnreadable("its reply has a tool call without a name")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        # Some servers give the object itself instead of its text.
        arguments = "{}" if arguments is None else json.dumps(arguments)
    call_id = call.get("id")
    return ToolCall(
        id=storable(call_id) if isinstance(call_id, str) else "",
        name=storable(function["name"]),
        arguments=storable(arguments),
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    return storable(content) if isinstance(content, str) else ""


def _usage(usage: Any, *, sent: int, received: int, tokens_max: int) -> Usage | None:
    """What a server says that it used; None where that cannot be true."""
    if not isinstance(usage, dict):
        return None
    try:
        prompt, output = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        cached = _count(_detail(usage, "prompt_tokens_details", "cached_tokens"))
        reasoning = _count(_detail(usage, "completion_tokens_details", "reasoning_tokens"))
        total = _count(usage.get("total_tokens") or prompt + output)
    except ReplyUnreadable:
        return None
    # Some servers count reasoning outside of the completion; it is billed as output.
    output += max(total - prompt - output, reasoning if reasoning > output else 0, 0)
    too_few = prompt * _BYTES_PER_TOKEN_MAX < sent or output * _BYTES_PER_TOKEN_MAX < received
    if too_few or cached > prompt or prompt + output > tokens_max:
        return None
    return Usage(input=prompt, cached_input=cached, output=output)


def _detail(usage: dict[str, Any], group: str, name: str) -> Any:
    details = usage.get(group)
    return (details.get(name) if isinstance(details, dict) else None) or 0


def _count(value: Any) -> int:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or value < 0:
        raise ReplyUnreadable("a count of tokens is not valid")
    return value
