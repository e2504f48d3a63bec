"""A run's parameters: from text or JSON to what the job's annotations say, and to JSON for the record."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.text import one_line
from taskpilot.jobs.conversion import Converter, type_text
from taskpilot.jobs.signature import is_input, run_parameters


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
    parameters = {parameter.name: parameter for parameter in run_parameters(spec.function)}
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
        converter = _converter(spec, parameter)
        if name in texts:
            values[name] = converter.from_text(texts[name])
        elif name in given:
            values[name] = converter.from_json(given[name])
        elif parameter.default is not parameter.empty:
            values[name] = converter.from_default(parameter.default)
        else:
            raise UsageError(f"job {spec.name!r} needs the parameter {name!r}: -p {name}=...; {_known(spec)}")
    return values


def bind_parameters(spec: JobSpec, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call of the job's function, from what `parse_parameters` gave and a row has kept.

    Raises ConfigurationError where the job's file has changed meanwhile so that they do not fit any more.
    """
    parameters = {parameter.name: parameter for parameter in run_parameters(spec.function)}
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
                arguments[name] = _converter(spec, parameter).rebuild(stored[name])
            except UsageError as error:
                raise ConfigurationError(
                    f"this run was started when job {spec.name!r} had other parameters: {error}",
                    hint=f"taskpilot run {spec.name}",
                ) from None
        elif parameter.default is parameter.empty:
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
            type_text=type_text(parameter.annotation),
            default_text=None if parameter.default is parameter.empty else one_line(repr(parameter.default)),
            required=parameter.default is parameter.empty,
            input=is_input(parameter.annotation),
        )
        for parameter in run_parameters(spec.function)
    ]


def check_parameters(spec: JobSpec) -> None:
    """Raises ConfigurationError where a type cannot be read from text, or a default does not fit its type; for `jobs validate`."""
    for parameter in run_parameters(spec.function):
        converter = _converter(spec, parameter)
        if parameter.default is not parameter.empty:
            converter.from_default(parameter.default)


def input_parameters(spec: JobSpec, values: Mapping[str, Any]) -> list[str]:
    """Names of the parameters that name an input file (`InputFile`) and have a text in `values`."""
    return [
        parameter.name
        for parameter in run_parameters(spec.function)
        if is_input(parameter.annotation) and isinstance(values.get(parameter.name), str)
    ]


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


def _converter(spec: JobSpec, parameter: inspect.Parameter) -> Converter:
    hint = parameter.annotation
    # `x: str = None` is written often, and meant as `x: str | None = None`.
    return Converter(spec.name, parameter.name, hint | None if parameter.default is None and _joinable(hint) else hint)


def _joinable(hint: Any) -> bool:
    return hasattr(hint, "__or__") and hint is not Any


def _known(spec: JobSpec) -> str:
    known = [str(parameter) for parameter in describe_parameters(spec)]
    return f"it has {'; '.join(known)}" if known else "it has none"
