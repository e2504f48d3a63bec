"""Calling a tool: arguments into Python, the call, the result back into JSON."""

import json
from typing import Any, Final

from taskpilot.domain.errors import TaskPilotError, ToolFailed
from taskpilot.domain.specs import ToolSpec
from taskpilot.domain.text import one_line
from taskpilot.tools.arguments import keyword_arguments, no_constant
from taskpilot.tools.signature import complaints, signature_of

MAX_RESULT_BYTES: Final = 64 * 1024
"""What a model is shown of a result: a conversation is sent again with every turn, and each byte of it is paid each time."""


def invoke(spec: ToolSpec, arguments: dict[str, Any]) -> Any:
    """The tool's result as plain JSON values. `arguments` are those that `parse_arguments` gave, and that policy allowed.

    Raises ToolFailed where the tool raised or gave what is not JSON; errors of the deployment and what stops a run pass as they are.
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
    """A recorded JSON result as the tool's return annotation has it. Raises ToolFailed where it does not fit."""
    from pydantic import ValidationError

    try:
        return signature_of(spec.function, f"tool {spec.name!r}").result.validate_json(json.dumps(value))
    except ValidationError as error:
        raise ToolFailed(f"the result of the tool {spec.name} does not fit its return annotation: {complaints(error)}") from None


def result_text(value: Any) -> str:
    """A result as a model is told it: text as it is, anything else as JSON, at most 64 kB with a note where it was cut."""
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
            f"the tool {spec.name} gave a {type(result).__name__} that cannot be written as JSON ({one_line(str(error))}); "
            "it has run, only its result is lost"
        ) from error
