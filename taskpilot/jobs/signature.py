"""The parameters in a job function's head, read without evaluating what only a type checker needs."""

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.specs import InputMarker

_CONTEXT_NAMES: Final = frozenset({"ctx", "_ctx", "context", "_context", "_"})
_SPREAD: Final = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def check_function(function: Callable[..., Any], name: str) -> None:
    """Raises ConfigurationError where the function is no plain synchronous one with a context first and annotated parameters after it."""
    if not inspect.isfunction(function):
        raise ConfigurationError(f"@job decorates plain functions, not {type(function).__name__!r} objects")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"job {name!r} is asynchronous; write it as a plain `def`: ctx.map runs many things at a time in threads")
    if inspect.isgeneratorfunction(function):
        raise ConfigurationError(f"job {name!r} is a generator, whose body would never run; return a list instead of using `yield`")
    parameters = _head(function)
    if not parameters or not _takes_context(parameters[0]):
        raise ConfigurationError(f"job {name!r} must take the run's context first: def {function.__name__}(ctx: RunContext, ...)")
    for parameter in parameters[1:]:
        if parameter.kind in _SPREAD:
            raise ConfigurationError(f"job {name!r} takes {_SPREAD[parameter.kind]}{parameter.name}; name each parameter, with its type")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ConfigurationError(f"job {name!r}: the parameter {parameter.name!r} is positional-only; parameters are given by name")
        if parameter.annotation is parameter.empty:
            raise ConfigurationError(f"job {name!r}: the parameter {parameter.name!r} has no type; write it like {parameter.name}: str")


def run_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a run: all after the context, each with its annotation evaluated.

    Raises ConfigurationError where an annotation names something that the file does not define.
    """
    parameters = _head(function)[1:]
    hints = _evaluated(function, {parameter.name: parameter.annotation for parameter in parameters})
    return [parameter.replace(annotation=hints[parameter.name]) for parameter in parameters]


def is_input(hint: Any) -> bool:
    """True for InputFile, also within a union."""
    if get_origin(hint) is Annotated and any(isinstance(extra, InputMarker) for extra in get_args(hint)[1:]):
        return True
    return get_origin(hint) in {Union, types.UnionType, Annotated} and any(is_input(member) for member in get_args(hint))


def _head(function: Callable[..., Any]) -> list[inspect.Parameter]:
    if sys.version_info >= (3, 14):
        import annotationlib

        # The context's type is often imported for the type checker only; it has no value at run time.
        signature = inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    else:
        signature = inspect.signature(function)
    return list(signature.parameters.values())


def _takes_context(parameter: inspect.Parameter) -> bool:
    if parameter.kind not in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
        return False
    return parameter.name in _CONTEXT_NAMES or "RunContext" in str(parameter.annotation)


def _evaluated(function: Callable[..., Any], annotations: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations as types. Only these are evaluated: what stands on the context or the result may not exist at run time."""

    def blank() -> None:
        """Takes the annotations, so that typing evaluates them in the namespace of the job's file."""

    bearer = types.FunctionType(blank.__code__, getattr(inspect.unwrap(function), "__globals__", {}))
    bearer.__annotations__ = dict(annotations)
    try:
        return get_type_hints(bearer, include_extras=True)
    except Exception as error:
        raise ConfigurationError(f"the types of {function.__qualname__}'s parameters cannot be read: {error}") from error
