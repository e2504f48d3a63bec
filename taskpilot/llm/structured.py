"""Structured replies: the modes that servers support, and a cache of the one that works."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, Final

from taskpilot.domain.chat import OutputSchema
from taskpilot.domain.text import unfenced
from taskpilot.llm.history import safe_name
from taskpilot.llm.schemas import relaxed_schema, strict_schema

_THOUGHT_BEGINS: Final = re.compile(r"<(?:think|thinking|thought|reasoning|seed:think)>|\[THINK\]")
_THOUGHT_ENDS: Final = re.compile(r"</(?:think|thinking|thought|reasoning|seed:think)>|\[/THINK\]")


class Mode(StrEnum):
    """How a server is asked for a structured reply, in the order of preference."""

    JSON_SCHEMA = "json_schema"
    FORCED_TOOL = "forced_tool"
    PROMPT = "prompt"


MODES: Final = tuple(Mode)


def payload_in(mode: Mode, payload: dict[str, Any], output: OutputSchema) -> dict[str, Any]:
    """A copy of the payload that asks for `output` in this mode."""
    name = safe_name(output.name)
    if mode is Mode.JSON_SCHEMA:
        strict = strict_schema(output.schema)
        shape = {"name": name, "schema": strict or relaxed_schema(output.schema), "strict": strict is not None}
        return {**payload, "response_format": {"type": "json_schema", "json_schema": shape}}
    if mode is Mode.FORCED_TOOL:
        tool = {"name": name, "description": "Gives the answer.", "parameters": relaxed_schema(output.schema)}
        return {
            **payload,
            "tools": [{"type": "function", "function": tool}],
            "tool_choice": {"type": "function", "function": {"name": name}},
        }
    instruction = (
        f"Answer with nothing but one JSON object `{name}` that fits this JSON schema, no text around it:\n"
        f"{json.dumps(output.schema, ensure_ascii=False)}"
    )
    first, *others = payload["messages"]
    if first["role"] == "system":
        # One system message only: many chat templates refuse a second one.
        return {**payload, "messages": [{**first, "content": f"{first['content']}\n\n{instruction}"}, *others]}
    return {**payload, "messages": [{"role": "system", "content": instruction}, first, *others]}


def without_thought(text: str) -> str:
    """A reply without the thought before it.

    A chat template may put the opening tag into the prompt: then the reply has the closing one alone, at the end of a line.
    """
    end = _THOUGHT_ENDS.search(text)
    if end is None:
        return text
    thought, answer = text[: end.start()], text[end.end() :]
    begin = _THOUGHT_BEGINS.search(thought)
    in_front = not answer.partition("\n")[0].strip() if begin is None else not thought[: begin.start()].strip()
    return answer.lstrip() if in_front else text


def json_text(text: str) -> str:
    """The JSON object of a reply that is one object or one fenced block, with or without a thought before it; else the reply unchanged.

    An object inside of other text is not taken: a model may quote what it does not mean.
    """
    end = _THOUGHT_ENDS.search(text)
    for part in (text, text[end.end() :] if end else "", without_thought(text)):
        plain = unfenced(part)
        if plain.startswith("{") and _object(plain) is not None:
            return plain
    return text


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class CapabilityCache:
    """The mode that one server and model support; threads share it."""

    def __init__(self) -> None:
        self._probing = threading.Lock()
        self._lock = threading.Lock()
        self._mode = Mode.JSON_SCHEMA
        self._settled = False
        self._answered = False
        self._proven = False

    @contextmanager
    def probing(self, seconds: float) -> Iterator[None]:
        """One thread finds out the mode while the others wait, at most `seconds` each; no thread waits once it is known."""
        held = not self._settled and self._probing.acquire(timeout=max(0.0, seconds))
        if held and self._settled:
            self._probing.release()
            held = False
        try:
            yield
        finally:
            if held:
                self._probing.release()

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes to try, the one to begin with first."""
        return MODES[MODES.index(self._mode) :]

    def may_be_unsupported(self, mode: Mode, status: int | None) -> bool:
        """Whether a status may mean that the server does not support the mode: then the next one is tried.

        Several servers return 500 for an unknown format, so it counts too until the mode has worked once.
        """
        if mode is MODES[-1]:
            return False
        return status in {400, 422} or (status in {500, 501} and not (self._answered and mode is self._mode))

    def answered(self, mode: Mode, content: str, output: OutputSchema, *, complete: bool) -> None:
        """Records a reply in a mode. `complete` is False if it was cut off or refused, and so proves nothing about the mode."""
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
                # The server ignored the format: the repair turn, which comes next, uses the next mode.
                self._mode, self._answered = MODES[MODES.index(mode) + 1], False
