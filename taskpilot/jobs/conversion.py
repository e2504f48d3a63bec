"""One parameter's way between text, JSON and its type, by pydantic."""

import inspect
import json
import types
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.text import one_line
from taskpilot.domain.times import parse_duration

_NO_JSON: Final = object()


class Converter:
    """Reads and writes the values of one parameter. What it gives for storing, it reads back as the same value."""

    def __init__(self, job: str, name: str, hint: Any) -> None:
        from pydantic import TypeAdapter

        self._job = job
        self._name = name
        self._hint = hint
        try:
            self._adapter = TypeAdapter(hint)
        except Exception as error:
            raise ConfigurationError(
                f"job {job!r}: the type {type_text(hint)} of the parameter {name!r} cannot be read from text: {_first_line(error)}"
            ) from None

    def from_text(self, text: str) -> Any:
        """The JSON value for what a person typed. Text stays text where the type allows it; lists and objects are written as JSON.

        Raises UsageError where it does not fit the type.
        """
        from pydantic import ValidationError

        if self._hint is timedelta:
            try:
                return self._stored(parse_duration(text))
            except ValueError:
                pass  # pydantic reads ISO 8601 durations and seconds.
        try:
            return self._stored(self._adapter.validate_strings(text))
        except ValidationError as error:
            as_text = error
        parsed = _json(text)
        if isinstance(parsed, list | dict | int | float | None) and not isinstance(parsed, bool):
            try:
                return self._stored(self._adapter.validate_json(text))
            except ValidationError as error:
                raise self._unfit(text, error if isinstance(parsed, list | dict) else as_text) from None
        raise self._unfit(text, as_text) from None

    def from_json(self, value: Any) -> Any:
        """The JSON value for one of a params file. Raises UsageError where it does not fit the type."""
        return self._stored(self.rebuild(value))

    def from_default(self, value: Any) -> Any:
        """The JSON value for the default in the function's head. Raises ConfigurationError where it does not fit its own type."""
        from pydantic import ValidationError

        try:
            return self._stored(self._adapter.validate_python(value))
        except (ValidationError, UsageError) as error:
            raise ConfigurationError(
                f"job {self._job!r}: the default of {self._name!r} does not fit its type {type_text(self._hint)}: {_reason(error)}"
            ) from None

    def rebuild(self, stored: Any) -> Any:
        """The Python value for a JSON one. Raises UsageError where it does not fit the type."""
        from pydantic import ValidationError

        try:
            return self._adapter.validate_json(json.dumps(stored, allow_nan=False))
        except ValidationError as error:
            raise self._unfit(stored, error) from None
        except (ValueError, TypeError):
            raise UsageError(f"parameter {self._name!r}: {one_line(repr(stored), limit=80)} is not JSON") from None

    def _stored(self, value: Any) -> Any:
        """The JSON that a run's row keeps, proved to be readable by the same type."""
        if hasattr(value, "get_secret_value"):
            raise ConfigurationError(
                f"job {self._job!r}: the parameter {self._name!r} is a secret, but parameters are recorded; read it from the environment"
            )
        try:
            stored = self._adapter.dump_python(value, mode="json", by_alias=True, round_trip=True, warnings="error")
            written = json.dumps(stored, allow_nan=False)
            again = self._adapter.validate_json(written)
            same = again == value or self._adapter.dump_python(again, mode="json", by_alias=True, round_trip=True) == stored
        except Exception as error:
            shown = one_line(repr(value), limit=80)
            raise UsageError(f"parameter {self._name!r}: {shown} cannot be recorded as JSON: {_reason(error)}") from None
        if not same:
            raise ConfigurationError(f"job {self._job!r}: the type {type_text(self._hint)} of {self._name!r} does not read its own JSON")
        return json.loads(written)

    def _unfit(self, value: Any, error: Exception) -> UsageError:
        shown = one_line(value if isinstance(value, str) else repr(value), limit=80)
        return UsageError(f"parameter {self._name!r} must be {type_text(self._hint)}, not '{shown}': {_reason(error)}{self._advice(value)}")

    def _advice(self, value: Any) -> str:
        if not isinstance(value, str):
            return ""
        shape = get_origin(self._hint) or self._hint
        if isinstance(shape, type) and issubclass(shape, list | tuple | set | frozenset):
            return f""" (a list is written as JSON: -p '{self._name}=["a", "b"]')"""
        if isinstance(shape, type) and issubclass(shape, dict):
            return f""" (an object is written as JSON: -p '{self._name}={{"key": "value"}}')"""
        return ""


def type_text(hint: Any) -> str:
    """A type as a person writes it; the values of a Literal or an Enum instead of its name."""
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


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


def _reason(error: Exception) -> str:
    """The first complaint, with its place inside the value, and without the value itself or a link."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return _first_line(error)
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    return one_line(f"{place}: {first['msg']}" if place else first["msg"])


def _first_line(error: Exception) -> str:
    return one_line(next(iter(str(error).splitlines()), type(error).__name__))
