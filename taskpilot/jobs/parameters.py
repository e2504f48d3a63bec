"""Reads a run's parameters from text or JSON by the job's annotations, and writes them as JSON for the record."""

import inspect
import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.specs import InputFile, InputMarker, JobSpec, ParameterSpec
from taskpilot.domain.text import one_line
from taskpilot.domain.times import parse_duration
from taskpilot.tools.signature import Parameter, describe_error, json_round_trip, signature_of, type_text


def parse_parameters(spec: JobSpec, pairs: Sequence[tuple[str, str]], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All parameters of a run, with the defaults, as the JSON values of its record.

    `pairs` are texts (`-p`), `extra` is the JSON object of a params file; `pairs` win. Raises UsageError for a parameter that is unknown,
    missing, ill-typed or given twice; ConfigurationError if the job is wrong.
    """
    parameters = {parameter.name: parameter for parameter in _parameters(spec)}
    texts = given_texts(spec, pairs, extra)
    given = extra or {}
    values = {}
    for name, parameter in parameters.items():
        if name in texts:
            values[name] = _from_text(parameter, texts[name])
        elif name in given:
            values[name] = _stored(parameter, _rebuilt(parameter, given[name]))
        elif not parameter.required:
            values[name] = _from_default(parameter)
        else:
            raise UsageError(f"job {spec.name!r} needs the parameter {name!r}: -p {name}=...", hint=_known(spec))
    return values


def given_texts(spec: JobSpec, pairs: Sequence[tuple[str, str]], extra: Mapping[str, Any] | None) -> dict[str, str]:
    """The texts by name. Raises UsageError for a parameter that is unknown or given twice."""
    texts: dict[str, str] = {}
    for name, text in pairs:
        if name in texts:
            raise UsageError(f"parameter '{one_line(name)}' is given twice")
        texts[name] = text
    names = {parameter.name for parameter in describe_parameters(spec)}
    for name in [*texts, *(extra or {})]:
        if name not in names:
            raise UsageError(f"job {spec.name!r} has no parameter '{one_line(str(name), limit=80)}'", hint=_known(spec))
    return texts


def bind_parameters(spec: JobSpec, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the job's function, from the recorded values of `parse_parameters`.

    Raises ConfigurationError if they do not fit any more, since the job's file has changed.
    """
    parameters = {parameter.name: parameter for parameter in _parameters(spec)}
    gone = [name for name in stored if name not in parameters]
    if gone:
        raise ConfigurationError(
            f"job {spec.name!r} has no parameter '{one_line(', '.join(gone))}' any more, but this run was started with it",
            hint=f"taskpilot run {spec.name}",
        )
    arguments = {}
    for name, parameter in parameters.items():
        if name in stored:
            try:
                arguments[name] = _rebuilt(parameter, stored[name])
            except UsageError as error:
                raise ConfigurationError(
                    f"this run was started when job {spec.name!r} had other parameters: {error}",
                    hint=f"taskpilot run {spec.name}",
                ) from None
        elif parameter.required:
            raise ConfigurationError(
                f"job {spec.name!r} now needs a parameter {name!r}, which this run was started without",
                hint=f"taskpilot run {spec.name} -p {name}=...",
            )
    return arguments


def describe_parameters(spec: JobSpec) -> Sequence[ParameterSpec]:
    """The parameters in the order of the signature. Raises ConfigurationError if a type cannot be read."""
    if spec.parameters is not None:
        return spec.parameters
    return [
        ParameterSpec(
            name=parameter.name,
            type_text=type_text(parameter.hint),
            default_text=None if parameter.required else one_line(repr(parameter.default)),
            required=parameter.required,
            input=_is_input(parameter.hint),
        )
        for parameter in _parameters(spec)
    ]


def complete_parameters(spec: JobSpec) -> tuple[ParameterSpec, ...]:
    """The same, with types and defaults as JSON, for processes that do not have the job's functions."""
    return tuple(
        _completed(described, parameter) for described, parameter in zip(describe_parameters(spec), _parameters(spec), strict=True)
    )


def _completed(described: ParameterSpec, parameter: Parameter) -> ParameterSpec:
    try:
        if parameter.required:
            default = None
            _ = parameter.adapter
        else:
            default = _from_default(parameter)
    except ConfigurationError as error:
        return replace(described, problem=error.one_line)
    return replace(described, default=default, form=form_of(parameter.hint))


def check_parameters(spec: JobSpec) -> None:
    """Raises ConfigurationError if a type cannot be read from text, or a default does not fit its type; for `jobs validate`."""
    for described in spec.parameters or complete_parameters(spec):
        if described.problem is not None:
            raise ConfigurationError(described.problem)


def input_parameters(spec: JobSpec, values: Mapping[str, Any]) -> list[str]:
    """Names of the `InputFile` parameters that have a text in `values`."""
    return [one.name for one in describe_parameters(spec) if one.input and isinstance(values.get(one.name), str)]


def read_parameters_file(text: str | bytes, *, name: str) -> dict[str, Any]:
    """The JSON object in a params file. Raises UsageError that names the file and the line."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{name}:{error.lineno}: not JSON: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError):
        raise UsageError(f"{name}: not JSON text in UTF-8") from None
    if not isinstance(values, dict):
        raise UsageError(f'{name}: must hold one JSON object, like {{"inbox": "other.jsonl"}}')
    return values


def _parameters(spec: JobSpec) -> tuple[Parameter, ...]:
    """The parameters of a run: all after the context."""
    if spec.is_data:
        return tuple(_DescribedParameter(spec, described) for described in spec.parameters or ())
    return signature_of(spec.function, f"job {spec.name!r}", skip=1).parameters


class _DescribedParameter(Parameter):
    """A parameter of a definition without functions."""

    def __init__(self, spec: JobSpec, described: ParameterSpec) -> None:
        hint = Any if described.form is None else type_of(described.form)
        super().__init__(f"job {spec.name!r}", described.name, hint, inspect.Parameter.empty)
        self.required = described.required
        self.described = described


_STANDARD: Final[Mapping[str, Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "None": type(None),
    "Any": Any,
    "date": date,
    "datetime": datetime,
    "timedelta": timedelta,
    "Decimal": Decimal,
    "Path": Path,
    "InputFile": InputFile,
}
"""Types that mean the same in every process."""


def form_of(hint: Any) -> Any:
    """The type as JSON; None where it is not made of standard types alone."""
    for name, standard in _STANDARD.items():
        if hint is standard or (name == "InputFile" and hint == standard):
            return name
    origin, members = get_origin(hint), get_args(hint)
    if origin is Literal and all(isinstance(member, str | int) for member in members):
        return ["literal", *members]
    kind = "union" if origin in {Union, types.UnionType} else "list" if origin is list else "dict" if origin is dict else None
    inner = [form_of(member) for member in members]
    return None if kind is None or None in inner else [kind, *inner]


def type_of(form: Any) -> Any:
    """The type of such a form."""
    if isinstance(form, str):
        return _STANDARD[form]
    kind, *inner = form
    if kind == "literal":
        return Literal[tuple(inner)]
    members = tuple(type_of(one) for one in inner)
    return Union[members] if kind == "union" else list[members] if kind == "list" else dict[members]  # type: ignore[valid-type,misc]  # noqa: UP007


def _is_input(hint: Any) -> bool:
    """True for InputFile, also within a union."""
    if get_origin(hint) is Annotated and any(isinstance(extra, InputMarker) for extra in get_args(hint)[1:]):
        return True
    return get_origin(hint) in {Union, types.UnionType, Annotated} and any(_is_input(member) for member in get_args(hint))


def _from_text(parameter: Parameter, text: str) -> Any:
    """The JSON value of a typed text. Text stays text if the type allows it; lists and objects are written as JSON.

    Raises UsageError if it does not fit the type.
    """
    from pydantic import ValidationError

    if parameter.hint is timedelta:
        try:
            return _stored(parameter, parse_duration(text))
        except ValueError:
            pass  # pydantic reads ISO 8601 durations and seconds.
    try:
        return _stored(parameter, parameter.adapter.validate_strings(text))
    except ValidationError as error:
        as_text = error
    # Other JSON, such as "true" for an int, is not accepted.
    if text.lstrip().startswith(tuple("[{-0123456789n")):
        try:
            return _stored(parameter, parameter.adapter.validate_json(text))
        except ValidationError as error:
            as_text = error if text.lstrip().startswith(("[", "{")) else as_text
    raise _unfit(parameter, text, as_text) from None


def _from_default(parameter: Parameter) -> Any:
    """The JSON value of the default. Raises ConfigurationError if it does not fit its type."""
    if isinstance(parameter, _DescribedParameter):
        if parameter.described.problem is not None:
            raise ConfigurationError(parameter.described.problem)
        return parameter.described.default
    value = parameter.read_default()
    try:
        return _stored(parameter, value)
    except UsageError as error:
        raise parameter.bad_default(str(error)) from None


def _rebuilt(parameter: Parameter, stored: Any) -> Any:
    """The Python value of a JSON value. Raises UsageError if it does not fit the type."""
    from pydantic import ValidationError

    try:
        return parameter.adapter.validate_json(json.dumps(stored, allow_nan=False))
    except ValidationError as error:
        raise _unfit(parameter, stored, error) from None
    except (ValueError, TypeError):
        raise UsageError(f"parameter {parameter.name!r}: {one_line(repr(stored), limit=80)} is not JSON") from None


def _stored(parameter: Parameter, value: Any) -> Any:
    """The JSON value for the record, checked to be readable by the same type."""
    if hasattr(value, "get_secret_value"):
        raise ConfigurationError(
            f"{parameter.owner}: the parameter {parameter.name!r} is a secret, but parameters are recorded",
            hint="read it from the environment",
        )
    try:
        plain, again = json_round_trip(parameter.adapter, value)
        same = again == value or json_round_trip(parameter.adapter, again)[0] == plain
    except ValueError as error:
        raise UsageError(f"parameter {parameter.name!r}: {one_line(repr(value), limit=80)} cannot be recorded as JSON: {error}") from None
    if not same:
        raise ConfigurationError(f"{parameter.owner}: the type {type_text(parameter.hint)} of {parameter.name!r} cannot read its own JSON")
    return plain


def _unfit(parameter: Parameter, value: Any, error: Exception) -> UsageError:
    shown = one_line(value if isinstance(value, str) else repr(value), limit=80)
    hint = None
    sentence = f"parameter {parameter.name!r} must be {type_text(parameter.hint)}, not '{shown}': {describe_error(error)}"
    shape = get_origin(parameter.hint) or parameter.hint
    if isinstance(value, str) and isinstance(shape, type) and issubclass(shape, list | tuple | set | frozenset):
        hint = f"""write a list as JSON: -p '{parameter.name}=["a", "b"]'"""
    elif isinstance(value, str) and isinstance(shape, type) and issubclass(shape, dict):
        hint = f"""write an object as JSON: -p '{parameter.name}={{"key": "value"}}'"""
    return UsageError(sentence, hint=hint)


def _known(spec: JobSpec) -> str:
    known = [str(parameter) for parameter in describe_parameters(spec)]
    return f"its parameters are {'; '.join(known)}" if known else "it has no parameters"
