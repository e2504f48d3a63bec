"""Prints the steps of a run for people: what each model was asked and answered, and what each tool was called with."""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from taskpilot.cli import formatting, output
from taskpilot.domain.ids import short_id
from taskpilot.domain.text import one_line, printable
from taskpilot.domain.usage import Usage

_INDENT: Final = 4


def show_steps(steps: Iterable[Mapping[str, Any]], run_id: str) -> None:
    """Prints each step. Of a conversation that goes on, only what is new since the model was last asked."""
    asked: dict[tuple[str | None, str], list[Any]] = {}
    cut = False
    for number, step in enumerate(steps, start=1):
        if number > 1:
            output.say()
        output.say_marked(step["status"], f"{step['status']}  {number}. {_heading(step)}")
        if step["kind"] == "ask" and isinstance(step["input"], list):
            place = (step["agent"], step["name"])
            _messages(step["input"], asked.get(place, []))
            asked[place] = step["input"]
        else:
            _value("input" if step["kind"] != "call" else "arguments", step["input"])
        if step["kind"] == "ask" and isinstance(step["result"], dict):
            _reply(step["result"])
        else:
            _value("result", step["result"])
        _value("error", step["error"])
        cut = cut or step["truncated"]
    if cut:
        output.say_command(f"\nsome texts are cut; all that is recorded: taskpilot runs steps {short_id(run_id)} --full")


def _heading(step: Mapping[str, Any]) -> str:
    parts = [step["kind"], step["name"]]
    if step["agent"] and step["agent"] != step["name"]:
        parts.append(f"by {step['agent']}")
    started = datetime.fromisoformat(step["started_at"])
    details = [formatting.instant(started)]
    if step["duration_seconds"] is not None:
        details.append(formatting.duration(step["duration_seconds"]))
    if step["model"]:
        details.append(step["model"])
    if (tokens := step["tokens"]) is not None:
        details.append(formatting.tokens(Usage(tokens["input"], tokens["cached_input"], tokens["output"])))
    if step["cost_usd"] is not None:
        details.append(formatting.short_usd(round(step["cost_usd"] * 1_000_000_000)))
    if step["decision_id"]:
        details.append(f"decision {short_id(step['decision_id'])}")
    return one_line(f"{' '.join(parts)}  ({', '.join(details)})", limit=400)


def _messages(messages: list[Any], before: list[Any]) -> None:
    same = next((place for place, (one, other) in enumerate(zip(messages, before, strict=False)) if one != other), len(before))
    if 0 < same < len(messages):
        _text(f"({formatting.count(same, 'message')} as before)")
    else:
        same = 0
    for message in messages[same:]:
        if isinstance(message, dict):
            _value(str(message.get("role", "message")), message.get("content") or None)
            _calls(message.get("tool_calls"))
        else:
            _value("message", message)


def _reply(reply: Mapping[str, Any]) -> None:
    _value("reply", reply.get("content") or None)
    _value("refusal", reply.get("refusal"))
    _calls(reply.get("tool_calls"))
    if reply.get("finish_reason") == "length":
        _text("the reply was cut off at the output limit")


def _calls(calls: Any) -> None:
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            _text(f"calls {call.get('name')}({call.get('arguments', '')})")


def _value(name: str, value: Any) -> None:
    if value is not None:
        _text(f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _text(text: str) -> None:
    """Indented lines, wrapped at the terminal's width."""
    columns = formatting.width_of(sys.stdout)
    for line in text.replace("\r\n", "\n").split("\n"):
        shown = printable(line.expandtabs(4))
        output.say(formatting.wrapped(" " * _INDENT + shown, columns, indent=_INDENT) if columns else " " * _INDENT + shown)
