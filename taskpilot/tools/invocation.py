"""Calls a tool: arguments become Python values, and the result becomes JSON."""

import json
from typing import Any, Final

from taskpilot.domain.errors import TaskPilotError, ToolFailed
from taskpilot.domain.specs import ToolSpec
from taskpilot.domain.text import one_line
from taskpilot.tools.arguments import keyword_arguments, no_constant
from taskpilot.tools.signature import describe_error, signature_of

MAX_RESULT_BYTES: Final = 64 * 1024
"""The limit of a result for a model: each turn sends the whole conversation again and costs money for each byte."""


def invoke(spec: ToolSpec, arguments: dict[str, Any]) -> Any:
    """The tool's result as plain JSON values. `arguments` come from `parse_arguments` and were allowed by policy.

    Raises ToolFailed if the tool raised or returned what is not JSON; a TaskPilotError or Stop passes unchanged.
    """
    values = keyword_arguments(spec, arguments)
    try:
        result = spec.function(**values)
    except TaskPilotError:
        raise
    except Exception as error:
        raise ToolFailed(f"the tool {spec.name} failed: {type(error).__name__}: {one_line(str(error), limit=500)}") from error
    return _as_json(spec, result)


def read_result(spec: ToolSpec, value: Any) -> Any:
    """A recorded JSON result as a value of the tool's return annotation. Raises ToolFailed if it does not fit."""
    from pydantic import ValidationError

    try:
        return signature_of(spec.function, f"tool {spec.name!r}").result.validate_json(json.dumps(value))
    except ValidationError as error:
        raise ToolFailed(f"the result of the tool {spec.name} does not fit its return annotation: {describe_error(error)}") from None


def result_text(value: Any) -> str:
    """A result for a model: text unchanged, anything else as JSON; at most 64 kB, with a note if it was cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_RESULT_BYTES:
        return data.decode("utf-8")
    note = f"\n[cut: {len(data)} bytes in all, the first {MAX_RESULT_BYTES // 1024} kB are shown]"
    return data[: MAX_RESULT_BYTES - len(note)].decode("utf-8", "ignore") + note


def _as_json(spec: ToolSpec, result: Any) -> Any:
    from pydantic_core import PydanticSerializationError

    try:
        text = signature_of(spec.function, f"tool {spec.name!r}").result.dump_json(result, warnings="none", by_alias=True)
        return json.loads(text, parse_constant=no_constant)
    except (PydanticSerializationError, ValueError, RecursionError, TypeError) as error:
        raise ToolFailed(
            f"the tool {spec.name} returned a {type(result).__name__} that cannot be written as JSON ({one_line(str(error))}); "
            "the tool has run, but its result is lost"
        ) from error
