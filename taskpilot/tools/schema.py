"""A function's parameters as a JSON schema and a validator, made from its annotations by pydantic, once for each function."""

import inspect
import threading
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line

_lock: Final = threading.Lock()
_known: Final[WeakKeyDictionary[Callable[..., Any], "Signature"]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Signature:
    """How to read a function's arguments from JSON, and its result to JSON and back."""

    model: Any
    """A pydantic model whose aliases are the parameters' names: a parameter may be called `schema` or `_x`, a field may not."""
    fields: tuple[tuple[str, str], ...]
    """For each parameter the model's field and the parameter's name."""
    result: Any
    """A pydantic TypeAdapter of the return annotation, of Any where there is none."""

    def parameters(self) -> dict[str, Any]:
        """The JSON schema of an object with the parameters, and no others, as properties."""
        from pydantic.json_schema import GenerateJsonSchema

        class Untitled(GenerateJsonSchema):
            """Titles that merely repeat a parameter's name would be paid for in every call."""

            def field_title_should_be_set(self, schema: Any) -> bool:
                return False

        schema: dict[str, Any] = self.model.model_json_schema(by_alias=True, schema_generator=Untitled)
        schema.pop("title", None)
        schema.setdefault("properties", {})
        return schema


def signature_of(function: Callable[..., Any], name: str) -> Signature:
    """The function's signature. Raises ConfigurationError that names the tool, the parameter and what is wrong with it."""
    with _lock:
        known = _known.get(function)
        if known is None:
            known = _known[function] = _read(function, name)
        return known


def _read(function: Callable[..., Any], name: str) -> Signature:
    from pydantic import ConfigDict, Field, TypeAdapter, create_model

    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise ConfigurationError(f"the tool {name} has an annotation that cannot be read: {one_line(str(error))}") from None
    fields: dict[str, Any] = {}
    names: list[tuple[str, str]] = []
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        _check_parameter(parameter, hints, name)
        _check_type(hints[parameter.name], parameter, name)
        default = ... if parameter.default is parameter.empty else parameter.default
        field = f"p{index}"
        fields[field] = (
            hints[parameter.name],
            Field(default, alias=parameter.name, validation_alias=parameter.name, serialization_alias=parameter.name),
        )
        names.append((field, parameter.name))
    model = create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True), **fields)
    result_hint = hints.get("return", Any)
    try:
        result: Any = TypeAdapter(result_hint)
    except Exception as error:  # pydantic raises many kinds here, and each means the same to the person.
        raise ConfigurationError(f"the tool {name} returns {_shown(result_hint)}, which cannot be written as JSON") from error
    return Signature(model, tuple(names), result)


def _check_parameter(parameter: inspect.Parameter, hints: dict[str, Any], name: str) -> None:
    where = f"the tool {name} has the parameter "
    if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise ConfigurationError(f"{where}{stars}{parameter.name}; a model must be told each parameter by name")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise ConfigurationError(f"{where}{parameter.name} before a /; a tool is called by names only")
    if parameter.name not in hints:
        raise ConfigurationError(f"{where}{parameter.name} without an annotation; write {parameter.name}: str, or what it is")


def _check_type(hint: Any, parameter: inspect.Parameter, name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    where = f"the tool {name} has the parameter {parameter.name}: {_shown(hint)}"
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        adapter.json_schema()
    except Exception as error:  # As above: whatever the kind, the annotation says nothing that JSON can say.
        raise ConfigurationError(f"{where}, which a model cannot give as JSON") from error
    if parameter.default is not parameter.empty:
        try:
            adapter.validate_python(parameter.default)
        except ValidationError:
            raise ConfigurationError(
                f"{where} = {one_line(repr(parameter.default), limit=60)}; the default does not fit the annotation"
            ) from None


def _shown(hint: Any) -> str:
    return one_line(getattr(hint, "__name__", None) or str(hint), limit=80)
