"""`@tool`: a function stays a function, with what a model must know of it beside it."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar, overload

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.options import checked_options
from taskpilot.domain.specs import ToolSpec
from taskpilot.tools.signature import check_plain, signature_of

P = ParamSpec("P")
R = TypeVar("R")

ATTRIBUTE: Final = "__taskpilot_tool__"
BUILT_IN: Final = ("create_task", "notify")
"""Names of the built-in tools: the default policy has rules for them that a job's own tool must not fall under."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the decorator was told; everything else is read from the function when it is first needed."""

    name: str
    idempotent: bool


@overload
def tool(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def tool(*, name: str | None = None, idempotent: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@checked_options("@tool")
def tool(
    function: Callable[P, R] | None = None, /, *, name: str | None = None, idempotent: bool = False
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Lets a model ask for this function; it stays callable as it is, and typed as it is.

    The docstring and the annotations become the tool's JSON schema. `idempotent=True` says that calling it again with the same
    arguments is harmless: such a call is made anew where its result was lost, every other one then waits for a person.
    Raises TypeError where it is put on something that is no plain function; the rest is checked when a job that lists it is loaded.
    """

    def declare(plain: Callable[P, R]) -> Callable[P, R]:
        if not inspect.isfunction(plain):
            raise TypeError(f"@tool goes on a plain function, not on {type(plain).__name__}")
        setattr(plain, ATTRIBUTE, Declaration(plain.__name__ if name is None else name, idempotent))
        return plain

    return declare if function is None else declare(function)


def is_tool(thing: object) -> bool:
    """True for what `tool_spec` takes: a function under `@tool`, or a ToolSpec."""
    return isinstance(thing, ToolSpec) or isinstance(getattr(thing, ATTRIBUTE, None), Declaration)


def tool_spec(function: Callable[..., Any] | ToolSpec) -> ToolSpec:
    """The tool as models, policy and journal know it. Raises ConfigurationError (78) that says what the function lacks."""
    if isinstance(function, ToolSpec):
        return function
    declaration = getattr(function, ATTRIBUTE, None)
    if not isinstance(declaration, Declaration):
        raise ConfigurationError(f"{_called(function)} is not a tool; put @tool above its definition")
    if declaration.name in BUILT_IN:
        raise ConfigurationError(
            f"the tool {declaration.name} is built in; give yours another name, as in @tool(name='my_{declaration.name}')"
        )
    return make_spec(function, name=declaration.name, idempotent=declaration.idempotent)


def make_spec(function: Callable[..., Any], *, name: str, idempotent: bool, description: str | None = None) -> ToolSpec:
    """A tool of that name, whether declared or built in. Raises ConfigurationError."""
    if not _NAME.fullmatch(str(name)):
        raise ConfigurationError(f"{name!r} is no name for a tool; use letters, digits and _, at most 64 (@tool(name='...'))")
    check_plain(function, f"tool {name!r}")
    text = description or inspect.getdoc(function)
    if not text or not text.strip():
        raise ConfigurationError(f"the tool {name} has no docstring; a model is told by it what the tool does")
    signature = signature_of(function, f"tool {name!r}")
    # A result that JSON cannot say is found here, not when the tool has run.
    _ = signature.result
    return ToolSpec(name=name, description=text, parameters=signature.schema(), function=function, idempotent=idempotent)


def _called(thing: object) -> str:
    return str(getattr(thing, "__name__", None) or repr(thing)[:80])
