"""JSON schemas as servers can take them: strict ones closed, all of them without lengths that make a grammar explode."""

from typing import Any, Final

_DROPPED_WHEN_STRICT: Final = frozenset({"default", "examples", "minLength", "maxLength", "uniqueItems"})
"""Keywords that strict servers refuse and that change no shape; the caller validates against the whole schema anyway."""
_KEPT_WHEN_STRICT: Final = frozenset(
    {"type", "enum", "const", "description", "title", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    | {"minItems", "maxItems", "pattern", "format", "$ref", "required"}
)
_REPEATS_MAX: Final = 64
"""llama.cpp writes a repetition out into its grammar; with maxLength 10,000 it could not parse that, and its Python server died of it."""
_REPEATS: Final = frozenset({"minLength", "maxLength", "minItems", "maxItems"})


def modest_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without large bounds on lengths; whoever validates the reply knows them still."""
    modest: dict[str, Any] = {}
    for key, value in schema.items():
        if key in {"properties", "$defs"} and isinstance(value, dict):
            modest[key] = {name: modest_schema(inner) if isinstance(inner, dict) else inner for name, inner in value.items()}
        elif key in {"items", "additionalProperties"} and isinstance(value, dict):
            modest[key] = modest_schema(value)
        elif key in {"anyOf", "oneOf", "allOf", "prefixItems"} and isinstance(value, list):
            modest[key] = [modest_schema(inner) if isinstance(inner, dict) else inner for inner in value]
        elif not (key in _REPEATS and isinstance(value, int) and value > _REPEATS_MAX):
            modest[key] = value
    return modest


def strict_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema as servers with strict structured outputs want it: every object closed, every property required.

    None where it says something that cannot be said strictly, such as an object with free keys.
    """
    if schema.get("type") != "object" and "$ref" not in schema:
        return None
    try:
        return _strict(schema)
    except _NotStrict:
        return None


class _NotStrict(Exception):
    """A schema says something that strict servers do not know."""


def _strict(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise _NotStrict("not a schema of its own")
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
            raise _NotStrict(f"{key} cannot be said strictly")
    if schema.get("type") == "object":
        if not schema.get("properties") or schema.get("additionalProperties", False) is not False:
            raise _NotStrict("an object with free keys")
        strict["additionalProperties"] = False
        strict["required"] = list(schema["properties"])
    elif not strict.keys() & {"type", "enum", "const", "anyOf", "$ref"}:
        raise _NotStrict("anything at all")
    return strict
