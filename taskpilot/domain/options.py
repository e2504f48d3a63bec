"""Checks the options of functions that job files call."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from taskpilot.domain.errors import InvalidOption
from taskpilot.domain.text import one_line

P = ParamSpec("P")
R = TypeVar("R")


def checked_options(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function raise InvalidOption, prefixed with `name`, for an unknown option and for a ValueError."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        known = [one.name for one in parameters if one.kind is not one.POSITIONAL_ONLY and one.name != "self"]

        @wraps(function)
        def checked(*args: P.args, **options: P.kwargs) -> R:
            for option in options:
                if option not in known:
                    raise InvalidOption(f"{name} has no option '{one_line(option)}'{_suggestion(option, known)}")
            try:
                return function(*args, **options)
            except ValueError as error:
                if isinstance(error, InvalidOption):
                    raise
                raise InvalidOption(f"{name}: {error}") from None

        return checked

    return decorate


def _suggestion(option: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(option, known, n=1, cutoff=0.75)
    return f"; did you mean '{close[0]}'?" if close else ""
