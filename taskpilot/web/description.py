"""The OpenAPI description as a person reads it: one entry an operation, with what is given and what comes back."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

_METHODS: Final = ("get", "post")
_Shapes = Mapping[str, Mapping[str, Any]]


def for_people(description: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the page: operations by tag, and the shapes that they name."""
    shapes = description.get("components", {}).get("schemas", {})
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in description["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                groups.setdefault(operation["tags"][0], []).append(_operation(method, path, operation, shapes))
    return {
        "description": description,
        "groups": list(groups.items()),
        "shapes": [(name, _shape(shape, shapes)) for name, shape in sorted(shapes.items()) if "properties" in shape],
    }


def _operation(method: str, path: str, operation: Mapping[str, Any], shapes: _Shapes) -> dict[str, Any]:
    inputs = [
        {
            "name": one["name"],
            "where": one["in"],
            "required": one.get("required", False),
            "type": type_of(one.get("schema", {}), shapes),
            "text": one.get("description", ""),
        }
        for one in operation.get("parameters", ())
    ]
    if "requestBody" in operation:
        body = operation["requestBody"]
        for media, content in body["content"].items():
            inputs.append(
                {"name": media, "where": "body", "required": False, "type": type_of(content.get("schema", {}), shapes), "text": ""}
            )
    answers = [
        {"status": status, "shape": ", ".join(_answer_shapes(answer, shapes))} for status, answer in sorted(operation["responses"].items())
    ]
    return {"method": method.upper(), "path": path, "text": operation.get("description", ""), "inputs": inputs, "answers": answers}


def _answer_shapes(answer: Mapping[str, Any], shapes: _Shapes) -> Iterator[str]:
    for media, content in answer.get("content", {}).items():
        name = type_of(content.get("schema", {}), shapes)
        yield name if name != "string" else media


def _shape(shape: Mapping[str, Any], shapes: _Shapes) -> dict[str, Any]:
    fields = [(key, type_of(value, shapes), value.get("description", "")) for key, value in shape["properties"].items()]
    return {"text": shape.get("description", ""), "fields": fields}


def type_of(schema: Mapping[str, Any], shapes: _Shapes) -> str:
    """A JSON schema in a few words: `list of Run`, `string (uuid) or null`; a closed set of words by its words."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return type_of(shapes[name], shapes) if "enum" in shapes.get(name, {}) else name
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(type_of(one, shapes) for one in schema[union]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {type_of(schema.get('items', {}), shapes)}"
    kind = str(schema.get("type", "anything"))
    return f"{kind} ({schema['format']})" if "format" in schema else kind
