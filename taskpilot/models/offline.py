"""The embedded model: a deterministic, rule-based planner, reviewer and executor with no network, which says so in every output."""

import json
import re
from typing import Any, Final

from taskpilot.domain.chat import OFFLINE, ChatReply, ChatRequest, Role, ToolCall
from taskpilot.domain.errors import ModelRefused
from taskpilot.domain.tasks import DESCRIPTION_MAX, TITLE_MAX
from taskpilot.domain.text import one_line
from taskpilot.domain.usage import Usage
from taskpilot.models.offline_rules import plan, review

_NOT_DONE: Final = re.compile(r"\b(denied|denies|deny|refused|rejected|error|failed|invalid|not allowed|needs approval)\b", re.IGNORECASE)


class OfflineModel:
    """Follows fixed rules: the same request gets the same answer, at no cost. It understands nothing and does not pretend to."""

    @property
    def name(self) -> str:
        """Always `offline`."""
        return OFFLINE

    def chat(self, request: ChatRequest, *, seconds_left: float) -> ChatReply:
        """An answer by rule. Raises ModelRefused for a structured reply that no rule can fill."""
        if request.output is not None:
            return _said(json.dumps(_structured(request), ensure_ascii=False))
        if request.agent == "executor":
            return _execute(request)
        return _said(
            "offline: the embedded model follows fixed rules for planner, reviewer and executor; "
            f"it cannot answer the agent {one_line(request.agent, limit=60)}. Name a real model by --model for that."
        )

    def close(self) -> None:
        """Nothing is held."""


def _said(content: str, *calls: ToolCall) -> ChatReply:
    return ChatReply(content=content, tool_calls=calls, finish_reason="tool_calls" if calls else "stop", usage=Usage())


def _asked(request: ChatRequest) -> str:
    """What the last user message says."""
    return next((message.content for message in reversed(request.messages) if message.role is Role.USER), "")


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _structured(request: ChatRequest) -> dict[str, Any]:
    schema = request.output.schema if request.output is not None else {}
    properties = schema.get("properties", {})
    asked = _asked(request)
    if request.agent == "planner" and "tasks" in properties:
        return {"tasks": [{"title": task.title, "priority": task.priority, "description": task.description} for task in plan(asked)]}
    if request.agent == "reviewer" and "verdict" in properties:
        task = _object(asked).get("task")
        verdict, reason = review(_field(task, "title") or asked, _field(task, "description"))
        return {"verdict": str(verdict), "reason": reason}
    example = _example(schema, schema, depth=0)
    if not isinstance(example, dict):
        raise ModelRefused(
            "offline: the embedded model can only give an object, and another output is asked for; name a real model by --model"
        )
    if request.agent == "summarizer" and "summary" in properties:
        return example | {"summary": "offline: the embedded rules summarize nothing; name a real model by --model for that."}
    return example


def _field(task: Any, key: str) -> str:
    value = task.get(key) if isinstance(task, dict) else None
    return value if isinstance(value, str) else ""


def _execute(request: ChatRequest) -> ChatReply:
    results = [message.content for message in request.messages if message.role is Role.TOOL]
    if results:
        answer = one_line(results[-1], limit=300)
        if _NOT_DONE.search(results[-1]):
            return _said(f"offline: the task was not filed. create_task answered: {answer}")
        return _said(f"offline: the task was filed. create_task answered: {answer}")
    task = _object(_asked(request)).get("task")
    title = _field(task, "title")
    if not title or not any(tool.name == "create_task" for tool in request.tools):
        return _said("offline: nothing was done: there is no task with a title, or no tool create_task.")
    arguments = {"title": title[:TITLE_MAX], "priority": _field(task, "priority") or "medium"}
    if _field(task, "description"):
        arguments["description"] = _field(task, "description")[:DESCRIPTION_MAX]
    return _said("", ToolCall(id="offline-1", name="create_task", arguments=json.dumps(arguments, ensure_ascii=False)))


def _example(schema: Any, root: dict[str, Any], *, depth: int) -> Any:
    """The smallest value that fits a schema, with `offline` wherever a text may stand. Raises ModelRefused where no rule fits."""
    if not isinstance(schema, dict) or depth > 20:
        raise ModelRefused("offline: the embedded model has no rule for the output that is asked for; name a real model by --model")
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _example(root.get("$defs", {}).get(reference.removeprefix("#/$defs/")), root, depth=depth + 1)
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        return _example(choices[-1] if {"type": "null"} in choices else choices[0], root, depth=depth + 1)
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _example(properties.get(name), root, depth=depth + 1) for name in schema.get("required", ())}
    if kind == "array":
        return [_example(schema.get("items"), root, depth=depth + 1) for _ in range(min(100, schema.get("minItems", 0)))]
    if kind == "string" and "pattern" not in schema and "format" not in schema:
        return OFFLINE.ljust(min(10_000, schema.get("minLength", 0)), ".")[: schema.get("maxLength", 10_000)]
    if kind in {"integer", "number"}:
        return schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    if kind in {"boolean", "null"}:
        return False if kind == "boolean" else None
    return _example(None, root, depth=depth)
