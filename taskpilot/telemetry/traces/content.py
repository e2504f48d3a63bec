"""Messages, arguments and results for spans: only where the settings allow it, bounded, without known secrets."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from taskpilot.domain.steps import StepKind
from taskpilot.telemetry.redaction import Redactor
from taskpilot.telemetry.traces import names

TEXT_MAX: Final = 32_768
"""Characters of one attribute: a collector refuses a request of more than 4 MB, and a request holds many spans."""


class Content:
    """Makes the content attributes of a step, as the GenAI conventions define them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._redactor = Redactor(secrets)

    def of(self, kind: str, given: str | None, result: str | None) -> dict[str, str | None]:
        """Of a step's kind, input and result, both as the record's JSON. What is no JSON, or no such message, is left out."""
        given_value, result_value = _loaded(given), _loaded(result)
        if kind == StepKind.ASK:
            return {names.INPUT_MESSAGES: self._messages(given_value), names.OUTPUT_MESSAGES: self._messages([result_value])}
        if kind == StepKind.CALL:
            return {names.TOOL_ARGUMENTS: self._text(given_value), names.TOOL_RESULT: self._text(result_value)}
        return {}

    def _messages(self, recorded: Any) -> str | None:
        messages = [_message(one) for one in recorded if isinstance(one, Mapping)] if isinstance(recorded, list) else []
        if not messages:
            return None
        text = self._dumped(messages)
        while len(text) > TEXT_MAX and len(messages) > 1:
            # The instructions at the beginning and the newest messages matter most.
            del messages[1 if len(messages) > 2 else 0]
            text = self._dumped(messages)
        return text if len(text) <= TEXT_MAX else None

    def _text(self, value: Any) -> str | None:
        if value is None:
            return None
        text = self._dumped(value)
        return text if len(text) <= TEXT_MAX else self._dumped(text[: TEXT_MAX // 2])

    def _dumped(self, value: Any) -> str:
        return json.dumps(self._redactor.plain(value), ensure_ascii=False, separators=(",", ":"))


def _message(given: Mapping[str, Any]) -> dict[str, Any]:
    """A message of the record, or a reply, in the shape of gen_ai.input.messages and gen_ai.output.messages."""
    role = given.get("role", "assistant")
    text = {"type": "text", "content": given.get("content") or given.get("refusal") or ""}
    answer = {"type": "tool_call_response", "id": given.get("tool_call_id"), "response": text["content"]}
    parts = [answer] if role == "tool" else [text] if text["content"] else []
    parts += [
        {"type": "tool_call", "id": call.get("id"), "name": call.get("name"), "arguments": _loaded(call.get("arguments"))}
        for call in given.get("tool_calls") or ()
        if isinstance(call, Mapping)
    ]
    finish = {"finish_reason": given["finish_reason"]} if given.get("finish_reason") else {}
    return {"role": role, "parts": parts, **finish}


def _loaded(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
