"""Answers of a chat completions server, good and bad ones, and a brain that plays planner, reviewer and executor."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

Body = dict[str, Any]

EVERY_MODE: Final = frozenset({"json_schema", "forced_tool", "prompt"})
_PROMPTED: Final = re.compile(r"one JSON object `(\w+)`")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an answer says it used; `prompt` includes `cached`."""

    prompt: int
    cached: int
    completion: int

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion)


PLAN_TOKENS: Final = Tokens(1_200, 1_024, 30)
REVIEW_TOKENS: Final = Tokens(431, 128, 17)
CALL_TOKENS: Final = Tokens(612, 256, 41)
FINISH_TOKENS: Final = Tokens(677, 512, 9)
"""The usage of each kind of call that `triage_brain` answers: odd figures, so that a sum shows which calls were counted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with one request."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay_seconds: float = 0.0
    """WaitBudget before it answers at all; ends early when the server closes."""
    drip_seconds: float = 0.0
    """Sends one byte at a time with this pause between them, headers first."""
    disconnect: str = ""
    """`before`: closes without a byte; `reset`: with a TCP reset; `amid`: after half of the body."""


def completion(message: Body, *, tokens: Tokens | None, finish_reason: str = "stop") -> Answer:
    """A whole chat completion."""
    reply: Body = {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": "test",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
    }
    if tokens is not None:
        reply["usage"] = {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.completion,
            "total_tokens": tokens.prompt + tokens.completion,
            "prompt_tokens_details": {"cached_tokens": tokens.cached},
        }
    return Answer(body=json.dumps(reply).encode())


def text(content: str, *, tokens: Tokens | None = Tokens(10, 0, 2), finish_reason: str = "stop") -> Answer:
    """A plain reply."""
    return completion({"content": content}, tokens=tokens, finish_reason=finish_reason)


def refusal(words: str, *, tokens: Tokens | None = Tokens(10, 0, 2)) -> Answer:
    """A reply whose model declines."""
    return completion({"content": None, "refusal": words}, tokens=tokens)


def tool_calls(*calls: tuple[str, Body | str], tokens: Tokens | None = Tokens(10, 0, 2)) -> Answer:
    """A reply that asks for tools: pairs of a name and its arguments, as an object or as raw text."""
    asked = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(calls, start=1)
    ]
    return completion({"content": None, "tool_calls": asked}, tokens=tokens, finish_reason="tool_calls")


def structured(body: Body, value: Body | str, *, tokens: Tokens | None = Tokens(10, 0, 2)) -> Answer:
    """A structured reply in the way that the request asks for; a str is put there as it is."""
    said = value if isinstance(value, str) else json.dumps(value)
    if mode_of(body) == "forced_tool":
        return tool_calls((str(wanted(body)), said), tokens=tokens)
    return text(said, tokens=tokens)


def error(status: int, message: str = "no", *, code: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An error in OpenAI's shape."""
    body = {"error": {"message": message, "type": "test_error", "param": None, "code": code}}
    return Answer(status=status, headers=tuple(headers), body=json.dumps(body).encode())


def raw(body: bytes, *, status: int = 200) -> Answer:
    """Any bytes at all."""
    return Answer(status=status, body=body)


def hang(seconds: float = 600.0) -> Answer:
    """Takes the request and says nothing."""
    return replace(text("late"), delay_seconds=seconds)


def drip(pause_seconds: float = 0.05) -> Answer:
    """Sends a correct reply so slowly that it takes minutes, with every read succeeding in time."""
    return replace(text("slow " * 2_000), drip_seconds=pause_seconds)


def disconnect(when: str = "before") -> Answer:
    """Breaks the connection: `before` any byte, by a TCP `reset`, or `amid` the body."""
    return replace(text("cut"), disconnect=when)


def huge(size: int = 10 * 1024 * 1024) -> Answer:
    """A correct reply of at least `size` bytes."""
    return text("x" * size)


def mode_of(body: Body) -> str | None:
    """How a request asks for a structured reply: json_schema, forced_tool or prompt; None where it asks for none."""
    if isinstance(body.get("response_format"), dict) and body["response_format"].get("type") == "json_schema":
        return "json_schema"
    if isinstance(body.get("tool_choice"), dict):
        return "forced_tool"
    return "prompt" if any(_PROMPTED.search(str(message.get("content"))) for message in body.get("messages", ())) else None


def wanted(body: Body) -> str | None:
    """The name of the structured output that a request asks for."""
    mode = mode_of(body)
    if mode == "json_schema":
        return str(body["response_format"]["json_schema"]["name"])
    if mode == "forced_tool":
        return str(body["tool_choice"]["function"]["name"])
    found = (_PROMPTED.search(str(message.get("content"))) for message in body.get("messages", ()))
    return next((match.group(1) for match in found if match), None)


def last_user(body: Body) -> str:
    """The last user message."""
    return next((str(message["content"]) for message in reversed(body["messages"]) if message["role"] == "user"), "")


def triage_brain(body: Body, *, tasks: int = 1, verdict: str = "APPROVE", priority: str = "medium") -> Answer:
    """Plays planner, reviewer and executor: `tasks` tasks a request, one verdict for all, one create_task and then an end."""
    name = wanted(body)
    if name == "Plan":
        subject = " ".join(last_user(body).split())[:60] or "nothing"
        proposed = [{"title": f"Task {n}: {subject}", "priority": priority, "description": subject} for n in range(1, tasks + 1)]
        return structured(body, {"tasks": proposed}, tokens=PLAN_TOKENS)
    if name == "Review":
        return structured(body, {"verdict": verdict, "reason": "the test server says so"}, tokens=REVIEW_TOKENS)
    if name is not None:
        return structured(body, {}, tokens=REVIEW_TOKENS)
    if not body.get("tools"):
        return text("an answer of the test server", tokens=FINISH_TOKENS)
    if body["messages"][-1]["role"] == "tool":
        return text("done", tokens=FINISH_TOKENS)
    try:
        task = json.loads(last_user(body))["task"]
    except (ValueError, KeyError, TypeError):
        return text("there is no task", tokens=FINISH_TOKENS)
    return tool_calls(("create_task", {"title": task["title"], "priority": task["priority"]}), tokens=CALL_TOKENS)
