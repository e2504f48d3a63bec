"""The part of JSON Schema in which a standing grant says what the arguments of a call may be.

Anything that is not known here is refused where the grant is made, so that nothing is allowed by a word that was not read. An argument that
the schema does not name is not allowed, unless it says `additionalProperties`.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from taskpilot.domain.text import one_line


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": lambda value: _is_number(value) and value == int(value),
}
_WORDS: Final = frozenset({"$schema", "title", "description", "examples"})
"""They say nothing about the value."""
_DEEPEST: Final = 20
_LONGEST: Final = 10_000
"""Characters of a text that a pattern is tried on."""


def check_schema(schema: Any, *, where: str = "the schema", depth: int = 0) -> None:
    """Raises ValueError where a schema, or a part of it, is not one that `fits` reads."""
    if isinstance(schema, bool) and depth:
        return
    if not isinstance(schema, dict) or depth > _DEEPEST:
        raise ValueError(f"{where} must be an object of at most {_DEEPEST} levels")
    for word, value in schema.items():
        place = f"{where}, {one_line(str(word), limit=60)}"
        if word in _WORDS:
            continue
        if word not in _CHECKS:
            raise ValueError(f"{place}: this keyword is not known; known are {', '.join(sorted(_CHECKS))}")
        _check_word(word, value, place, depth)


def fits(schema: Any, value: Any) -> bool:
    """Whether a value is one that a checked schema allows."""
    if isinstance(schema, bool):
        return schema
    return all(_CHECKS[word](wanted, value, schema) for word, wanted in schema.items() if word not in _WORDS)


def arguments_fit(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> bool:
    """Whether the arguments of a call are ones that a checked schema allows."""
    named = schema.get("properties", {})
    return fits(schema, dict(arguments)) and ("additionalProperties" in schema or arguments.keys() <= named.keys())


def _check_word(word: str, value: Any, place: str, depth: int) -> None:
    if word == "properties":
        if not isinstance(value, dict):
            raise ValueError(f"{place} must be an object")
        for name, one in value.items():
            check_schema(one, where=f"{place} {one_line(name, limit=60)}", depth=depth + 1)
    elif word in ("additionalProperties", "items"):
        check_schema(value, where=place, depth=depth + 1)
    elif word == "type":
        kinds = value if isinstance(value, list) else [value]
        if not kinds or not all(isinstance(kind, str) and kind in _TYPES for kind in kinds):
            raise ValueError(f"{place} must be one of {', '.join(_TYPES)}")
    elif word == "required":
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise ValueError(f"{place} must be a list of names")
    elif word == "enum":
        if not isinstance(value, list) or not value:
            raise ValueError(f"{place} must be a list of values")
    elif word == "pattern":
        _check_pattern(value, place)
    elif word != "const" and not _is_number(value):
        raise ValueError(f"{place} must be a number")


def _check_pattern(value: Any, place: str) -> None:
    try:
        re.compile(value)
    except (re.error, TypeError, RecursionError):
        raise ValueError(f"{place} must be a regular expression") from None


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) or (_is_number(one) and _is_number(other) and one == other)


def _of_type(kinds: str | Sequence[str], value: Any, _schema: Any) -> bool:
    return any(_TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _others(allowed: Any, value: Any, schema: Mapping[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    return all(fits(allowed, one) for name, one in value.items() if name not in schema.get("properties", {}))


def _limit(kind: str, holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any, Any], bool]:
    """A keyword that compares a number, or the length of a text or list; a value of another kind is not its matter."""

    def check(wanted: Any, value: Any, _schema: Any) -> bool:
        if not _TYPES[kind](value):
            return True
        return holds(value if kind == "number" else len(value), wanted)

    return check


_CHECKS: Final[Mapping[str, Callable[[Any, Any, Any], bool]]] = {
    "type": _of_type,
    "const": lambda wanted, value, _schema: _same(wanted, value),
    "enum": lambda wanted, value, _schema: any(_same(one, value) for one in wanted),
    "required": lambda wanted, value, _schema: not isinstance(value, dict) or all(name in value for name in wanted),
    "properties": lambda wanted, value, _schema: (
        not isinstance(value, dict) or all(fits(one, value[name]) for name, one in wanted.items() if name in value)
    ),
    "additionalProperties": _others,
    "items": lambda wanted, value, _schema: not isinstance(value, list) or all(fits(wanted, one) for one in value),
    "pattern": lambda wanted, value, _schema: (
        not isinstance(value, str) or (len(value) <= _LONGEST and re.search(wanted, value) is not None)
    ),
    "minimum": _limit("number", lambda value, wanted: value >= wanted),
    "maximum": _limit("number", lambda value, wanted: value <= wanted),
    "exclusiveMinimum": _limit("number", lambda value, wanted: value > wanted),
    "exclusiveMaximum": _limit("number", lambda value, wanted: value < wanted),
    "minLength": _limit("string", lambda value, wanted: value >= wanted),
    "maxLength": _limit("string", lambda value, wanted: value <= wanted),
    "minItems": _limit("array", lambda value, wanted: value >= wanted),
    "maxItems": _limit("array", lambda value, wanted: value <= wanted),
}
