"""A run's parameters: from text or JSON to what the job's annotations say, and to JSON for the record."""

import json
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Union, get_args, get_origin

from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.specs import InputMarker, JobSpec
from taskpilot.domain.text import one_line
from taskpilot.domain.times import parse_duration
from taskpilot.tools.signature import Parameter, complaints, recorded, signature_of, type_text


@dataclass(frozen=True, slots=True)
class ParameterInfo:
    """A parameter as `jobs show` tells it."""

    name: str
    type_text: str
    default_text: str | None
    """As Python writes it; None where the parameter is required."""
    required: bool
    input: bool = False
    """True where it names a file that the run reads."""

    def __str__(self) -> str:
        """Like `inbox: str = 'inbox.jsonl'`."""
        default = "" if self.default_text is None else f" = {self.default_text}"
        return f"{self.name}: {self.type_text}{default}"


def parse_parameters(spec: JobSpec, pairs: Sequence[tuple[str, str]], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every parameter of a run, defaults included, as JSON values: what the run's row keeps.

    `pairs` are texts (`-p`), `extra` is the JSON object of a params file; where both name a parameter, the text counts.
    Raises UsageError for what is unknown, missing, ill-typed or given twice; ConfigurationError where the job itself is at fault.
    """
    parameters = {parameter.name: parameter for parameter in _parameters(spec)}
    texts: dict[str, str] = {}
    for name, text in pairs:
        if name in texts:
            raise UsageError(f"parameter '{one_line(name)}' is given twice")
        texts[name] = text
    given = extra or {}
    for name in [*texts, *given]:
        if name not in parameters:
            raise UsageError(f"job {spec.name!r} has no parameter '{one_line(str(name), limit=80)}'; {_known(spec)}")
    values = {}
    for name, parameter in parameters.items():
        if name in texts:
            values[name] = _from_text(parameter, texts[name])
        elif name in given:
            values[name] = _stored(parameter, _rebuilt(parameter, given[name]))
        elif not parameter.required:
            values[name] = _from_default(parameter)
        else:
            raise UsageError(f"job {spec.name!r} needs the parameter {name!r}: -p {name}=...; {_known(spec)}")
    return values


def bind_parameters(spec: JobSpec, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call of the job's function, from what `parse_parameters` gave and a row has kept.

    Raises ConfigurationError where the job's file has changed meanwhile so that they do not fit any more.
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


def describe_parameters(spec: JobSpec) -> list[ParameterInfo]:
    """The parameters in the order of the function's head. Raises ConfigurationError where their types cannot be read."""
    return [
        ParameterInfo(
            name=parameter.name,
            type_text=type_text(parameter.hint),
            default_text=None if parameter.required else one_line(repr(parameter.default)),
            required=parameter.required,
            input=_is_input(parameter.hint),
        )
        for parameter in _parameters(spec)
    ]


def check_parameters(spec: JobSpec) -> None:
    """Raises ConfigurationError where a type cannot be read from text, or a default does not fit its type; for `jobs validate`."""
    for parameter in _parameters(spec):
        if parameter.required:
            _ = parameter.adapter
        else:
            _from_default(parameter)


def input_parameters(spec: JobSpec, values: Mapping[str, Any]) -> list[str]:
    """Names of the parameters that name an input file (`InputFile`) and have a text in `values`."""
    return [one.name for one in _parameters(spec) if _is_input(one.hint) and isinstance(values.get(one.name), str)]


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
    return signature_of(spec.function, f"job {spec.name!r}", skip=1).parameters


def _is_input(hint: Any) -> bool:
    """True for InputFile, also within a union."""
    if get_origin(hint) is Annotated and any(isinstance(extra, InputMarker) for extra in get_args(hint)[1:]):
        return True
    return get_origin(hint) in {Union, types.UnionType, Annotated} and any(_is_input(member) for member in get_args(hint))


def _from_text(parameter: Parameter, text: str) -> Any:
    """The JSON value for what a person typed. Text stays text where the type allows it; lists and objects are written as JSON.

    Raises UsageError where it does not fit the type.
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
    # JSON of another kind, such as "true" for an int, is no way to write a value.
    if text.lstrip().startswith(tuple("[{-0123456789n")):
        try:
            return _stored(parameter, parameter.adapter.validate_json(text))
        except ValidationError as error:
            as_text = error if text.lstrip().startswith(("[", "{")) else as_text
    raise _unfit(parameter, text, as_text) from None


def _from_default(parameter: Parameter) -> Any:
    """The JSON value for the default in the function's head. Raises ConfigurationError where it does not fit its own type."""
    value = parameter.read_default()
    try:
        return _stored(parameter, value)
    except UsageError as error:
        raise parameter.misfit(str(error)) from None


def _rebuilt(parameter: Parameter, stored: Any) -> Any:
    """The Python value for a JSON one. Raises UsageError where it does not fit the type."""
    from pydantic import ValidationError

    try:
        return parameter.adapter.validate_json(json.dumps(stored, allow_nan=False))
    except ValidationError as error:
        raise _unfit(parameter, stored, error) from None
    except (ValueError, TypeError):
        raise UsageError(f"parameter {parameter.name!r}: {one_line(repr(stored), limit=80)} is not JSON") from None


def _stored(parameter: Parameter, value: Any) -> Any:
    """The JSON that a run's row keeps, proved to be readable by the same type."""
    if hasattr(value, "get_secret_value"):
        raise ConfigurationError(
            f"{parameter.owner}: the parameter {parameter.name!r} is a secret, but parameters are recorded; read it from the environment"
        )
    try:
        plain, again = recorded(parameter.adapter, value)
        same = again == value or recorded(parameter.adapter, again)[0] == plain
    except ValueError as error:
        raise UsageError(f"parameter {parameter.name!r}: {one_line(repr(value), limit=80)} cannot be recorded as JSON: {error}") from None
    if not same:
        raise ConfigurationError(
            f"{parameter.owner}: the type {type_text(parameter.hint)} of {parameter.name!r} does not read its own JSON"
        )
    return plain


def _unfit(parameter: Parameter, value: Any, error: Exception) -> UsageError:
    shown = one_line(value if isinstance(value, str) else repr(value), limit=80)
    says = f"parameter {parameter.name!r} must be {type_text(parameter.hint)}, not '{shown}': {complaints(error)}"
    shape = get_origin(parameter.hint) or parameter.hint
    if isinstance(value, str) and isinstance(shape, type) and issubclass(shape, list | tuple | set | frozenset):
        says += f""" (a list is written as JSON: -p '{parameter.name}=["a", "b"]')"""
    elif isinstance(value, str) and isinstance(shape, type) and issubclass(shape, dict):
        says += f""" (an object is written as JSON: -p '{parameter.name}={{"key": "value"}}')"""
    return UsageError(says)


def _known(spec: JobSpec) -> str:
    known = [str(parameter) for parameter in describe_parameters(spec)]
    return f"it has {'; '.join(known)}" if known else "it has none"
