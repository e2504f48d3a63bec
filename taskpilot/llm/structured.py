"""Structured replies by whatever means a server has, and the memory of which means it had."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from taskpilot.domain.chat import OutputSchema
from taskpilot.domain.text import unfenced
from taskpilot.llm.schemas import modest_schema, strict_schema

_THOUGHT: Final = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")


class Mode(StrEnum):
    """How a server is asked for a structured reply, in the order of preference."""

    JSON_SCHEMA = "json_schema"
    FORCED_TOOL = "forced_tool"
    PROMPT = "prompt"


MODES: Final = tuple(Mode)


def asked_as(mode: Mode, payload: dict[str, Any], output: OutputSchema) -> dict[str, Any]:
    """A copy of the payload that asks for `output` in this mode."""
    name = _NOT_IN_A_NAME.sub("_", output.name)[:64] or "Reply"
    if mode is Mode.JSON_SCHEMA:
        strict = strict_schema(output.schema)
        shape = {"name": name, "schema": strict or modest_schema(output.schema), "strict": strict is not None}
        return {**payload, "response_format": {"type": "json_schema", "json_schema": shape}}
    if mode is Mode.FORCED_TOOL:
        tool = {"name": name, "description": "Gives the answer.", "parameters": modest_schema(output.schema)}
        return {
            **payload,
            "tools": [{"type": "function", "function": tool}],
            "tool_choice": {"type": "function", "function": {"name": name}},
        }
    order = (
        f"Answer with nothing but one JSON object `{name}` that fits this JSON schema, no text around it:\n"
        f"{json.dumps(output.schema, ensure_ascii=False)}"
    )
    first, *others = payload["messages"]
    if first["role"] == "system":
        # One system message only: many chat templates refuse a second one.
        return {**payload, "messages": [{**first, "content": f"{first['content']}\n\n{order}"}, *others]}
    return {**payload, "messages": [{"role": "system", "content": order}, first, *others]}


def json_text(text: str) -> str:
    """The JSON object in a reply that is one, or that is one fenced block; else the reply as it is.

    An object with words around it is not taken, fenced or not: what a model quotes, it need not mean.
    """
    plain = unfenced(_THOUGHT.sub("", text, count=1))
    return plain if _is_object(plain) else text


def _is_object(text: str) -> bool:
    return text.startswith("{") and _object(text) is not None


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class CapabilityCache:
    """What one server and model turned out to understand; shared by all threads that ask them."""

    def __init__(self) -> None:
        self._finding = threading.Lock()
        self._lock = threading.Lock()
        self._mode = Mode.JSON_SCHEMA
        self._settled = False
        self._answered = False
        self._proven = False

    @contextmanager
    def finding(self, seconds: float) -> Iterator[None]:
        """Lets one thread find out while the others wait, for at most `seconds` each; nobody waits once it is settled."""
        held = not self._settled and self._finding.acquire(timeout=max(0.0, seconds))
        if held and self._settled:
            self._finding.release()
            held = False
        try:
            yield
        finally:
            if held:
                self._finding.release()

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes to try, the one to begin with first."""
        return MODES[MODES.index(self._mode) :]

    def may_be_unsupported(self, mode: Mode, status: int | None) -> bool:
        """Whether a status may mean that the server does not know the mode: then the next one is tried.

        Several servers answer 500 to a format that they do not know, so before the mode has ever been answered that counts too.
        """
        if mode is MODES[-1]:
            return False
        return status in {400, 422} or (status in {500, 501} and not (self._answered and mode is self._mode))

    def answered(self, mode: Mode, content: str, output: OutputSchema, *, complete: bool) -> None:
        """Learns from an answer. `complete` is False where it was cut off or refused, which says nothing about the mode."""
        found = _object(content)
        fits = found is not None and set(output.schema.get("required", ())) <= found.keys()
        with self._lock:
            if not self._proven:
                self._mode, self._answered, self._settled = mode, True, True
            if mode is not self._mode:
                return
            if fits:
                self._proven = True
            elif complete and not self._proven and mode is not MODES[-1]:
                # It answered and paid no attention to the format: the repair turn, which comes next, is asked in another way.
                self._mode, self._answered = MODES[MODES.index(mode) + 1], False
