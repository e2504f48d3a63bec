"""Adapts JSON schemas to what servers accept: strict ones are closed, and all are without large limits."""

from typing import Any, Final

_DROPPED_WHEN_STRICT: Final = frozenset({"default", "examples", "minLength", "maxLength", "uniqueItems"})
"""Keywords that strict servers refuse and that do not change the shape; the caller validates with the whole schema anyway."""
_KEPT_WHEN_STRICT: Final = frozenset(
    {"type", "enum", "const", "description", "title", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minItems", "maxItems", "pattern", "format", "$ref", "required"}
)
_REPEATS_MAX: Final = 64
"""llama.cpp expands a repetition in its grammar; it could not parse the grammar of maxLength 10,000, and its Python server crashed."""
_REPEATS: Final = frozenset({"minLength", "maxLength", "minItems", "maxItems"})


def relaxed_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without large limits of length; the reply is validated with the whole schema."""
    relaxed: dict[str, Any] = {}
    for key, value in schema.items():
        if key in {"properties", "$defs"} and isinstance(value, dict):
            relaxed[key] = {name: relaxed_schema(inner) if isinstance(inner, dict) else inner for name, inner in value.items()}
        elif key in {"items", "additionalProperties"} and isinstance(value, dict):
            relaxed[key] = relaxed_schema(value)
        elif key in {"anyOf", "oneOf", "allOf", "prefixItems"} and isinstance(value, list):
            relaxed[key] = [relaxed_schema(inner) if isinstance(inner, dict) else inner for inner in value]
        elif not (key in _REPEATS and isinstance(value, int) and value > _REPEATS_MAX):
            relaxed[key] = value
    return relaxed


def strict_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema for servers with strict structured outputs: every object closed, every property required.

    None if it contains something else, such as an object with free keys.
    """
    if schema.get("type") != "object" and "$ref" not in schema:
        return None
    try:
        return _strict(schema)
    except _NotStrict:
        return None


class _NotStrict(Exception):
    """A schema contains something that strict servers do not accept."""


def _strict(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise _NotStrict("not a schema")
    if "$ref" in schema and "$defs" not in schema:
        return {"$ref": schema["$ref"]}
    strict: dict[str, Any] = {}
    for key, value in schema.items():
        if key in {"properties", "$defs"}:
            strict[key] = {name: _strict(inner) for name, inner in value.items()}
        elif key == "items":
            strict[key] = _strict(value)
        elif key == "anyOf":
            strict[key] = [_strict(inner) for inner in value]
        elif key in _KEPT_WHEN_STRICT:
            strict[key] = value
        elif key not in _DROPPED_WHEN_STRICT and key != "additionalProperties":
            raise _NotStrict(f"{key} is not strict")
    if schema.get("type") == "object":
        if not schema.get("properties") or schema.get("additionalProperties", False) is not False:
            raise _NotStrict("an object with free keys")
        strict["additionalProperties"] = False
        strict["required"] = list(schema["properties"])
    elif not strict.keys() & {"type", "enum", "const", "anyOf", "$ref"}:
        raise _NotStrict("a value of any type")
    return strict
