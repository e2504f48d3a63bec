"""Values on their way into the journal and back: JSON that pydantic writes, re-read by a function's return annotation."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, get_type_hints


def to_json(value: Any) -> Any:
    """The value as plain JSON types. Raises TypeError where pydantic cannot write it as JSON."""
    from pydantic import TypeAdapter
    from pydantic_core import PydanticSerializationError

    try:
        return json.loads(TypeAdapter(Any).dump_json(value), parse_constant=_no_constant)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise TypeError(f"a {type(value).__name__} cannot be recorded as JSON: {str(error)[:200]}") from error


def from_json(function: Callable[..., Any], value: Any) -> Any:
    """The recorded value as the function's return annotation says; plain JSON types where there is none."""
    adapter = _return_adapter(function)
    return value if adapter is None else adapter.validate_json(json.dumps(value))


def digestible(arguments: Any) -> Any:
    """Arguments as JSON for a digest; what is no JSON counts by its type alone, since an address is another one in each attempt."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(arguments, fallback=lambda value: f"<{type(value).__qualname__}>", inf_nan_mode="strings")


@lru_cache(maxsize=256)
def _return_adapter(function: Callable[..., Any]) -> Any:
    from pydantic import TypeAdapter

    try:
        annotation = get_type_hints(function, include_extras=True).get("return", Any)
    except (NameError, TypeError, AttributeError):
        return None
    return None if annotation is Any else TypeAdapter(annotation)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
