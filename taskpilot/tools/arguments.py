"""Reads a tool's arguments, from a model's text or a job's values, into the form that policy, journal and approvals use."""

import json
from typing import Any, Final

from taskpilot.domain.errors import ToolArgumentsInvalid
from taskpilot.domain.specs import ToolSpec
from taskpilot.domain.text import one_line
from taskpilot.tools.signature import describe_error, json_round_trip, signature_of

MAX_BYTES: Final = 64 * 1024
"""The same limit as in policy/guards.py, which would deny more."""
MAX_DEPTH: Final = 16
_ERRORS_SHOWN: Final = 5
_TOO_DEEP: Final = f"they nest deeper than {MAX_DEPTH} levels"


def parse_arguments(spec: ToolSpec, arguments: str | dict[str, Any]) -> dict[str, Any]:
    """The arguments as plain JSON values, with the defaults; the call reads them again from this form.

    Text must be one JSON object without a repeated key; empty text counts as an empty object. Raises ToolArgumentsInvalid with a short
    message that a model can act on.
    """
    from pydantic import ValidationError

    adapter = signature_of(spec.function, f"tool {spec.name!r}").arguments
    try:
        if isinstance(arguments, str):
            # In JSON mode, an array may become a set or a tuple, and a text a date.
            model = adapter.validate_json(json.dumps(read_object(arguments)))
        else:
            model = adapter.validate_python(arguments)
    except ValidationError as error:
        raise _invalid(spec, describe_error(error, _ERRORS_SHOWN)) from None
    except RecursionError:
        raise _invalid(spec, _TOO_DEEP) from None
    except _Unreadable as error:
        raise _invalid(spec, str(error)) from None
    try:
        canonical, again = json_round_trip(adapter, model)
        size = len(json.dumps(canonical, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))
    except ValueError as error:
        raise _invalid(spec, f"they cannot be written as JSON ({one_line(str(error), limit=100)})") from None
    if again != model:
        raise _invalid(spec, "a value in them changes when it is written as JSON and read again (a secret type?)")
    if size > MAX_BYTES:
        raise _invalid(spec, f"they are larger than {MAX_BYTES // 1024} kB")
    if _depth(canonical) > MAX_DEPTH:
        raise _invalid(spec, _TOO_DEEP)
    result: dict[str, Any] = canonical
    return result


def keyword_arguments(spec: ToolSpec, arguments: dict[str, Any]) -> dict[str, Any]:
    """Canonical arguments as the Python values that the function is annotated with. Raises ToolArgumentsInvalid."""
    from pydantic import ValidationError

    signature = signature_of(spec.function, f"tool {spec.name!r}")
    try:
        model = signature.arguments.validate_json(json.dumps(arguments, allow_nan=False))
    except ValidationError as error:
        raise _invalid(spec, describe_error(error, _ERRORS_SHOWN)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise _invalid(spec, f"they are not plain JSON ({one_line(str(error), limit=100)})") from None
    return signature.keywords(model)


class _Unreadable(ValueError):
    """Why a text is no object of arguments, in words for a model."""


def read_object(text: str) -> dict[str, Any]:
    """The one JSON object, without a repeated key, that a model's text is; empty text is an empty object. Raises ValueError."""
    if not text.strip():
        return {}
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise _Unreadable(f"they are larger than {MAX_BYTES // 1024} kB")
    try:
        value = json.loads(text, parse_constant=no_constant, object_pairs_hook=no_repeats)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise _Unreadable(f"they are not JSON: {error.msg} at character {error.pos}") from None
    except UnicodeEncodeError:
        raise _Unreadable("they hold half a surrogate pair") from None
    except ValueError as error:
        raise _Unreadable(f"they are not JSON: {one_line(str(error), limit=120)}") from None
    except RecursionError:
        raise _Unreadable(_TOO_DEEP) from None
    if not isinstance(value, dict):
        raise _Unreadable("they must be one JSON object with the parameters by name")
    if _depth(value) > MAX_DEPTH:
        raise _Unreadable(_TOO_DEEP)
    return value


def no_constant(name: str) -> Any:
    """For `json.loads`: refuses NaN and infinities, which Python reads but JSON does not have. Raises ValueError."""
    raise ValueError(f"{name} is not a number in JSON")


def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: refuses an object with a repeated key. Raises ValueError."""
    value = dict(pairs)
    if len(value) != len(pairs):
        # Two readers might take different values from such text.
        raise ValueError("a key is repeated in one object")
    return value


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack and deepest <= MAX_DEPTH:
        item, level = stack.pop()
        deepest = max(deepest, level)
        if isinstance(item, dict):
            stack.extend((inner, level + 1) for inner in item.values())
        elif isinstance(item, list):
            stack.extend((inner, level + 1) for inner in item)
    return deepest


def _invalid(spec: ToolSpec, why: str) -> ToolArgumentsInvalid:
    return ToolArgumentsInvalid(f"the arguments do not fit {spec.name}: {why}")
