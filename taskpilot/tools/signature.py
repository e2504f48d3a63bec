"""Reads function signatures for `@job` and `@tool` with pydantic: names, types, defaults, and values to and from JSON."""

import inspect
import json
import sys
import types
from collections.abc import Callable, Sequence
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line

_ATTRIBUTE: Final = "__taskpilot_signature__"
_SPREAD: Final = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


class Parameter:
    """One parameter of a job or a tool, with its evaluated type; the pydantic adapter is made when it is first needed."""

    def __init__(self, owner: str, name: str, hint: Any, default: Any) -> None:
        self.owner = owner
        self.name = name
        # `x: str = None` means `x: str | None = None`.
        self.hint = hint | None if default is None and hint is not Any and hasattr(hint, "__or__") else hint
        self.default = default
        self.required = default is inspect.Parameter.empty

    @cached_property
    def adapter(self) -> Any:
        """The pydantic TypeAdapter. Raises ConfigurationError if pydantic cannot read the type."""
        from pydantic import TypeAdapter

        try:
            return TypeAdapter(self.hint)
        except Exception as error:
            raise self.bad_type(error) from None

    def read_default(self) -> Any:
        """The default as a value of the type. Raises ConfigurationError if it does not fit."""
        from pydantic import ValidationError

        try:
            return self.adapter.validate_python(self.default)
        except ValidationError as error:
            raise self.bad_default(describe_error(error)) from None

    def bad_default(self, why: str) -> ConfigurationError:
        """The error for a default that does not fit its type."""
        return ConfigurationError(f"{self.owner}: the default of {self.name!r} does not fit its type {type_text(self.hint)}: {why}")

    def bad_type(self, error: Exception) -> ConfigurationError:
        """The error for a type that text and JSON cannot express."""
        return ConfigurationError(
            f"{self.owner}: the type {type_text(self.hint)} of the parameter {self.name!r} cannot be read from text or JSON: "
            f"{describe_error(error)}"
        )


class Signature:
    """The parameters of a function, and its result."""

    def __init__(self, function: Callable[..., Any], owner: str, *, skip: int) -> None:
        self.owner = owner
        self._function = function
        signature = _signature(function)
        head = list(signature.parameters.values())[skip:]
        check_named(head, owner)
        hints = self._evaluated({parameter.name: parameter.annotation for parameter in head})
        self.parameters = tuple(Parameter(owner, one.name, hints[one.name], one.default) for one in head)
        self._returns = signature.return_annotation

    @cached_property
    def arguments(self) -> Any:
        """A TypeAdapter of one model with all arguments by name; it forbids others.

        The fields are numbered and the names are aliases, since a parameter may be called `schema` or `_x` and a field may not.
        """
        from pydantic import ConfigDict, Field, TypeAdapter, create_model

        fields: dict[str, Any] = {
            f"p{index}": (one.hint, Field(... if one.required else one.default, alias=one.name))
            for index, one in enumerate(self.parameters)
        }
        config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True)
        return TypeAdapter(create_model("arguments", __config__=config, **fields))

    def keywords(self, model: Any) -> dict[str, Any]:
        """The keyword arguments of a call, from a model that `arguments` has read."""
        return {one.name: getattr(model, f"p{index}") for index, one in enumerate(self.parameters)}

    @cached_property
    def result(self) -> Any:
        """A TypeAdapter of the return annotation, of Any where there is none. Raises ConfigurationError."""
        from pydantic import TypeAdapter

        hint = Any if self._returns is inspect.Signature.empty else self._evaluated({"return": self._returns})["return"]
        try:
            return TypeAdapter(hint)
        except Exception as error:  # pydantic raises many kinds of errors here, with one meaning.
            raise ConfigurationError(f"{self.owner} returns {type_text(hint)}, which cannot be written as JSON") from error

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments. Raises ConfigurationError for a type that JSON cannot express or a bad default."""
        from pydantic.json_schema import GenerateJsonSchema

        class Untitled(GenerateJsonSchema):
            """No titles: they only repeat the names, and every call would pay for them."""

            def field_title_should_be_set(self, schema: Any) -> bool:
                return False

        for parameter in self.parameters:
            adapter = parameter.adapter
            try:
                adapter.json_schema()
            except Exception as error:
                raise parameter.bad_type(error) from None
            if not parameter.required:
                parameter.read_default()
        schema: dict[str, Any] = self.arguments.json_schema(by_alias=True, schema_generator=Untitled)
        schema.pop("title", None)
        schema.setdefault("properties", {})
        return schema

    def _evaluated(self, annotations: dict[str, Any]) -> dict[str, Any]:
        """The annotations as types. Only these are evaluated: the types of a job's context or result may not exist at run time."""

        def blank() -> None:
            """Carries the annotations, so that typing evaluates them in the namespace of the function's file."""

        carrier = types.FunctionType(blank.__code__, getattr(inspect.unwrap(self._function), "__globals__", {}))
        carrier.__annotations__ = annotations
        try:
            return get_type_hints(carrier, include_extras=True)
        except Exception as error:
            raise ConfigurationError(f"{self.owner}: an annotation cannot be read: {one_line(str(error))}") from error


def signature_of(function: Callable[..., Any], owner: str, *, skip: int = 0) -> Signature:
    """The signature without its first `skip` parameters, read once; `owner` is like `job 'triage'` in errors. Raises ConfigurationError."""
    known = getattr(function, _ATTRIBUTE, None)
    if not isinstance(known, Signature) or known.owner != owner:
        known = Signature(function, owner, skip=skip)
        setattr(function, _ATTRIBUTE, known)
    return known


def declared_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters with their annotations as written."""
    return list(_signature(function).parameters.values())


def check_plain(function: Callable[..., Any], owner: str) -> None:
    """Raises ConfigurationError for an asynchronous function or a generator."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"{owner} is asynchronous", hint="write it as a plain `def`; ctx.map runs many calls at a time, in threads"
        )
    if inspect.isgeneratorfunction(function):
        raise ConfigurationError(f"{owner} is a generator, whose body would never run", hint="return a list instead of using `yield`")


def check_named(parameters: Sequence[inspect.Parameter], owner: str) -> None:
    """Raises ConfigurationError for a parameter without a fixed name or without a type."""
    for parameter in parameters:
        if parameter.kind in _SPREAD:
            raise ConfigurationError(f"{owner} takes {_SPREAD[parameter.kind]}{parameter.name}", hint="name each parameter, with its type")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigurationError(
                f"{owner}: the parameter {parameter.name!r} is positional-only", hint="remove the / from the signature"
            )
        if parameter.annotation is parameter.empty:
            raise ConfigurationError(f"{owner}: the parameter {parameter.name!r} has no type", hint=f"write it like {parameter.name}: str")


def json_round_trip(adapter: Any, value: Any) -> tuple[Any, Any]:
    """The value as plain JSON, and what the same type reads from it. Raises ValueError if it cannot be written or read."""
    try:
        text = json.dumps(adapter.dump_python(value, mode="json", by_alias=True, round_trip=True, warnings="error"), allow_nan=False)
        return json.loads(text), adapter.validate_json(text)
    except Exception as error:
        raise ValueError(describe_error(error)) from None


def describe_error(error: Exception, most: int = 1) -> str:
    """The first `most` problems of a pydantic error on one line, without values and links; for another error its first line."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return one_line(next(iter(str(error).splitlines()), type(error).__name__))
    found = error.errors(include_url=False, include_input=False, include_context=False)
    places = [one_line(".".join(map(str, one["loc"])), limit=64) for one in found[:most]]
    parts = [
        f"{place}: {one_line(one['msg'], limit=150)}" if place else one_line(one["msg"], limit=150)
        for place, one in zip(places, found, strict=False)
    ]
    return "; ".join([*parts, f"and {len(found) - most} more"] if len(found) > most > 1 else parts)


def type_text(hint: Any) -> str:
    """A type as it is written in Python; a Literal or an Enum by its values."""
    if hint is None or hint is type(None):
        return "None"
    origin, members = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_text(members[0])
    if origin is Literal:
        return " | ".join(map(repr, members))
    if origin in {Union, types.UnionType}:
        return " | ".join(map(type_text, members))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " | ".join(repr(member.value) for member in hint)
    if hint is Ellipsis:
        return "..."
    if origin is not None and members:
        return f"{type_text(origin)}[{', '.join(type_text(member) for member in members)}]"
    return one_line(inspect.formatannotation(hint).rpartition(".")[2])


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        import annotationlib

        # A type that is imported only for type checkers has no value at run time.
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)
