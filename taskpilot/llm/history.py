"""A conversation as JSON for a server: what a model got wrong in it is repaired, since strict servers refuse the whole request for it."""

import hashlib
import json
import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from taskpilot.domain.chat import Message, Role, ToolCall
from taskpilot.domain.text import storable

_ID_MAX: Final = 40
"""OpenAI's limit."""
_NAME_MAX: Final = 64
_USUAL_ID: Final = re.compile(rf"[!-~]{{1,{_ID_MAX}}}")
_SPECIAL_TOKEN: Final = re.compile(r"<\|.*", re.DOTALL)
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")
_EMPTY: Final = "(empty)"


def sent_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages of a request: each call has one id, a usual name and a JSON object as its arguments, and each result its call's id."""
    used: set[str] = set()
    waiting: dict[str, deque[str]] = {}
    sent = []
    for message in messages:
        one: dict[str, Any] = {"role": str(message.role), "content": storable(message.content)}
        if message.tool_calls:
            # Not an empty or blank text beside the calls: some servers refuse one.
            one["content"] = one["content"] if message.content.strip() else None
            one["tool_calls"] = [_sent_call(call, used, waiting) for call in message.tool_calls]
        elif message.role is Role.TOOL:
            ids = waiting.get(message.tool_call_id or "")
            one["tool_call_id"] = ids.popleft() if ids else storable(message.tool_call_id or "")
            one["content"] = one["content"] or _EMPTY
        elif message.role is Role.ASSISTANT:
            one["content"] = one["content"] or _EMPTY
        sent.append(one)
    return sent


def safe_name(name: str) -> str:
    """The name of a tool or a schema as every server takes it."""
    return _NOT_IN_A_NAME.sub("_", _SPECIAL_TOKEN.sub("", name).strip())[:_NAME_MAX] or "unnamed"


def _sent_call(call: ToolCall, used: set[str], waiting: dict[str, deque[str]]) -> dict[str, Any]:
    call_id = call.id if _USUAL_ID.fullmatch(call.id) and call.id not in used else _new_id(call.id, used)
    used.add(call_id)
    # Results come in the order of their calls.
    waiting.setdefault(call.id, deque()).append(call_id)
    return {"id": call_id, "type": "function", "function": {"name": safe_name(call.name), "arguments": _arguments(call.arguments)}}


def _new_id(given: str, used: set[str]) -> str:
    """The same in every attempt; nine letters and digits, the only form that Mistral takes."""
    number = 0
    while (made := hashlib.sha256(f"{number}:{storable(given)}".encode()).hexdigest()[:9]) in used:
        number += 1
    return made


def _arguments(text: str) -> str:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return "{}"
    return storable(text) if isinstance(value, dict) else "{}"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
