"""Writes values as JSON for the journal, and reads them by a function's return annotation; both with pydantic."""

import dataclasses
import enum
import json
import math
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, Final, get_type_hints

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.text import one_line
from taskpilot.tools.signature import describe_error

_DEEPEST: Final = 100
"""Levels of an argument in its digest; a deeper value, or one that contains itself, counts only by its type."""
_WIDEST_INT: Final = 1 << 12_000
"""Python does not convert longer integers to decimal."""


def to_json(value: Any, *, by_alias: bool = False, fallback: Callable[[Any], Any] | None = None) -> Any:
    """The value as plain JSON types. Raises TypeError if pydantic cannot write it as JSON; NaN and infinities are refused.

    `fallback` converts values of types that pydantic does not know.
    """
    from pydantic_core import PydanticSerializationError
    from pydantic_core import to_json as write

    try:
        return json.loads(write(value, by_alias=by_alias, inf_nan_mode="constants", fallback=fallback), parse_constant=_no_constant)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise TypeError(f"a {type(value).__name__} cannot be recorded as JSON: {str(error)[:200]}") from error


def from_json(function: Callable[..., Any], value: Any, *, name: str) -> Any:
    """The recorded value as the type of the function's return annotation; plain JSON types without one.

    Raises TaskPilotError that names the step if the value does not fit: the record does not change, so another attempt cannot help.
    """
    from pydantic import ValidationError

    adapter = _return_adapter(function)
    if adapter is None:
        return value
    try:
        # By the names of fields too: a field may have an alias for one direction only.
        return adapter.validate_json(json.dumps(value), by_alias=True, by_name=True)
    except ValidationError as error:
        raise TaskPilotError(
            f"the result of the step {one_line(name, limit=80)} is recorded and does not fit the return annotation of "
            f"{getattr(function, '__name__', 'its function')}: {describe_error(error)}",
            hint="fix the annotation, then resume the run",
        ) from None


def digestible(arguments: Any) -> Any:
    """Arguments as JSON for a digest, the same in every process: iterators are not consumed, sets are sorted.

    Other values count only by their type: their address differs in each attempt.
    """
    return _plain(arguments, 0)


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, depth)
    if isinstance(value, int):
        return int(value) if -_WIDEST_INT < value < _WIDEST_INT else hex(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": bytes(value).hex()}
    if depth >= _DEEPEST or isinstance(value, Iterator):
        return _by_type(value)
    if isinstance(value, Mapping):
        return _mapping(value, depth)
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, AbstractSet):
        return sorted((_plain(item, depth + 1) for item in value), key=_canonical)
    return _object(value, depth)


def _mapping(value: Mapping[Any, Any], depth: int) -> Any:
    if all(isinstance(key, str) for key in value):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    return sorted(([_plain(key, depth + 1), _plain(item, depth + 1)] for key, item in value.items()), key=_canonical)


def _object(value: Any, depth: int) -> Any:
    from pydantic import BaseModel
    from pydantic_core import to_jsonable_python

    if isinstance(value, BaseModel):
        return _mapping({**value.__dict__, **(value.model_extra or {})}, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _mapping({field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}, depth)
    try:
        return _plain(to_jsonable_python(value, fallback=_by_type, inf_nan_mode="strings"), depth + 1)
    except (ValueError, TypeError, RecursionError):
        return _by_type(value)


def _by_type(value: Any) -> str:
    return f"<{type(value).__qualname__}>"


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _return_adapter(function: Callable[..., Any]) -> Any:
    try:
        return _known_adapter(function)
    except TypeError:
        # Not hashable, such as a callable dataclass.
        return _read_adapter(function)


def _read_adapter(function: Callable[..., Any]) -> Any:
    from pydantic import TypeAdapter

    try:
        annotation = get_type_hints(function, include_extras=True).get("return", Any)
    except (NameError, TypeError, AttributeError):
        return None
    return None if annotation is Any else TypeAdapter(annotation)


_known_adapter = lru_cache(maxsize=256)(_read_adapter)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
