"""`@tool`: marks a function as a tool and makes its ToolSpec."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, ParamSpec, TypeVar, overload

from taskpilot.domain.errors import ConfigurationError, InvalidOption
from taskpilot.domain.options import checked_options
from taskpilot.domain.specs import ToolSpec, parse_approval_timeout
from taskpilot.tools.signature import check_plain, signature_of

P = ParamSpec("P")
R = TypeVar("R")

ATTRIBUTE: Final = "__taskpilot_tool__"
BUILT_IN: Final = ("create_task", "notify")
"""Names of the built-in tools. A job's tool must not use them: the default policy has rules for these names."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Declaration:
    """The decorator's options; everything else is read from the function when it is first needed."""

    name: str
    idempotent: bool
    approval_timeout: timedelta | None


@overload
def tool(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def tool(
    *, name: str | None = None, idempotent: bool = False, approval_timeout: str | timedelta | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@checked_options("@tool")
def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    idempotent: bool = False,
    approval_timeout: str | timedelta | None = None,
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Lets a model call this function, which stays callable and typed as before.

    The docstring and the annotations become the tool's JSON schema. With `idempotent=True`, calling it again with the same arguments is
    harmless: if the result of a call is lost, the call is made again; otherwise the run waits for a person.
    `approval_timeout="1h"`: how long a question to a person about a call is open; by default as long as the job says. Raises TypeError for
    anything but a plain function, and InvalidOption for a wrong time; the rest is checked when a job that lists the tool is loaded.
    """
    try:
        timeout = None if approval_timeout is None else parse_approval_timeout(approval_timeout)
    except ValueError as error:
        raise InvalidOption(f"@tool(approval_timeout=...): {error}") from None

    def declare(plain: Callable[P, R]) -> Callable[P, R]:
        if not inspect.isfunction(plain):
            raise TypeError(f"@tool decorates plain functions, not {type(plain).__name__!r} objects")
        setattr(plain, ATTRIBUTE, Declaration(plain.__name__ if name is None else name, idempotent, timeout))
        return plain

    return declare if function is None else declare(function)


def is_tool(thing: object) -> bool:
    """True for what `tool_spec` takes: a function under `@tool`, or a ToolSpec."""
    return isinstance(thing, ToolSpec) or isinstance(getattr(thing, ATTRIBUTE, None), Declaration)


def tool_spec(function: Callable[..., Any] | ToolSpec) -> ToolSpec:
    """The tool for models, policy and journal. Raises ConfigurationError (78) that names what the function lacks."""
    if isinstance(function, ToolSpec):
        return function
    declaration = getattr(function, ATTRIBUTE, None)
    if not isinstance(declaration, Declaration):
        raise ConfigurationError(f"{_name_of(function)} is not a tool", hint="put @tool above its definition")
    if declaration.name in BUILT_IN:
        raise ConfigurationError(
            f"the tool {declaration.name} is built in", hint=f"use another name, as in @tool(name='my_{declaration.name}')"
        )
    return make_spec(function, name=declaration.name, idempotent=declaration.idempotent, approval_timeout=declaration.approval_timeout)


def make_spec(
    function: Callable[..., Any],
    *,
    name: str,
    idempotent: bool,
    description: str | None = None,
    approval_timeout: timedelta | None = None,
) -> ToolSpec:
    """A tool of that name, whether declared or built in. Raises ConfigurationError."""
    if not _NAME.fullmatch(str(name)):
        raise ConfigurationError(f"{name!r} is not a tool name: letters, digits and _, at most 64", hint="use @tool(name='...')")
    check_plain(function, f"tool {name!r}")
    text = description or inspect.getdoc(function)
    if not text or not text.strip():
        raise ConfigurationError(f"the tool {name} has no docstring, which describes it to a model")
    signature = signature_of(function, f"tool {name!r}")
    # Checks the return type here, before the tool has run.
    _ = signature.result
    return ToolSpec(name, text, signature.schema(), function, idempotent, approval_timeout)


def _name_of(thing: object) -> str:
    return str(getattr(thing, "__name__", None) or repr(thing)[:80])
