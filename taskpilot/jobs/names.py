"""The names of jobs as their files say them, read without running a file: for a shell's completion."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAX_BYTES: Final = 1 << 20
"""A job file that is longer is none that a person wrote."""


def names_said_in(directory: Path) -> list[str]:
    """The names that `@job` seems to give in a folder's files, sorted; a file that cannot be read or parsed says none."""
    return sorted({name for path in directory.glob("[!_.]*.py") for name in _said(path)})


def _said(path: Path) -> Iterator[str]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for function in (one for one in tree.body if isinstance(one, ast.FunctionDef)):
        for decorator in function.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            if (isinstance(called, ast.Name) and called.id == "job") or (isinstance(called, ast.Attribute) and called.attr == "job"):
                yield _named(decorator) or function.name


def _named(decorator: ast.expr) -> str | None:
    given = decorator.keywords if isinstance(decorator, ast.Call) else ()
    values = (keyword.value for keyword in given if keyword.arg == "name")
    return next((value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)), None)
