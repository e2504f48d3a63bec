"""A run's parameters: what a person types, what the row keeps, and what the job is called with."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.specs import InputFile, JobSpec
from taskpilot.jobs.decorator import job, job_spec
from taskpilot.jobs.parameters import bind_parameters, check_parameters, describe_parameters, parse_parameters
from tests.errors import saying

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Item(BaseModel):
    title: str
    weight: Annotated[float, Field(alias="w")] = 1.0


@dataclass
class Point:
    x: int
    y: int = 0


def spec_of(function: Callable[..., Any]) -> JobSpec:
    return job_spec(job(name="triage")(function))


def taking(hint: Any, *default: Any) -> JobSpec:
    """A job with one parameter `value` of a type."""

    def function(ctx: object, value: Any) -> None: ...

    function.__annotations__["value"] = hint
    function.__defaults__ = default
    return spec_of(function)


def through(hint: Any, text: str) -> Any:
    """What the job is called with for `-p value=TEXT`, by way of the row's JSON."""
    spec = taking(hint)
    stored = json.loads(json.dumps(parse_parameters(spec, [("value", text)], None), allow_nan=False))
    return bind_parameters(spec, stored)["value"]


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (str, "5", "5"),
        (str, '["a"]', '["a"]'),
        (str, "null", "null"),
        (str, "", ""),
        (str | None, "null", "null"),
        (int, "5", 5),
        (int, "-0", 0),
        (float, "1e3", 1000.0),
        (bool, "yes", True),
        (bool, "0", False),
        (int | None, "5", 5),
        (int | None, "null", None),
        (Optional[int], "null", None),  # noqa: UP045 - as people still write it
        (Path, "a/b=c", Path("a/b=c")),
        (date, "2026-12-24", date(2026, 12, 24)),
        (datetime, "2026-12-24T08:00:00Z", datetime(2026, 12, 24, 8, tzinfo=UTC)),
        (timedelta, "1h30m", timedelta(minutes=90)),
        (timedelta, "PT5M", timedelta(minutes=5)),
        (Decimal, "1.10", Decimal("1.10")),
        (UUID, "0" * 32, UUID(int=0)),
        (Literal["a", "b"], "a", "a"),
        (Literal[1, 2], "2", 2),
        (Colour, "red", Colour.RED),
        (Level, "2", Level.HIGH),
        (list[str], '["a", "5"]', ["a", "5"]),
        (list[int], "[1, 2]", [1, 2]),
        (list, "[1, null]", [1, None]),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (set[int], "[1, 1]", {1}),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (list[str] | None, '["a"]', ["a"]),
        (list[Colour], '["red", "blue"]', [Colour.RED, Colour.BLUE]),
        (Item, '{"title": "x", "w": 2}', Item.model_validate({"title": "x", "w": 2})),
        (list[Item], '[{"title": "x"}]', [Item(title="x")]),
        (Point, '{"x": 1}', Point(1)),
        (Annotated[int, Field(ge=1)], "1", 1),
        (Annotated[str, Field(max_length=3)], "abc", "abc"),
        (InputFile, "-", "-"),
        (Any, "5", "5"),
    ],
)
def test_what_is_typed_becomes_what_the_annotation_says(hint: Any, text: str, value: Any) -> None:
    got = through(hint, text)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("hint", "text", "says"),
    [
        (int, "five", r"parameter 'value' must be int, not 'five': .*integer"),
        (int, "5.5", "must be int"),
        (int, "true", "must be int"),
        (int, "", "must be int"),
        (bool, "maybe", "must be bool"),
        (float, "nan", "JSON"),
        (Literal["a", "b"], "c", r"must be 'a' \| 'b', not 'c'"),
        (Colour, "green", r"must be 'red' \| 'blue', not 'green'"),
        (list[str], "a", r"""write a list as JSON: -p 'value=\["a", "b"\]\'"""),
        (list[int], '["x"]', r"must be list\[int\], .*0: .*integer"),
        (dict[str, int], "a", r"""write an object as JSON: -p 'value={"key": "value"}\'"""),
        (Item, "{}", "title: Field required"),
        (Annotated[int, Field(ge=1)], "0", "greater than or equal to 1"),
        (Annotated[str, Field(max_length=3)], '"abc"', "at most 3"),
        (date, "tomorrow", "must be date"),
        (str, "\udc80", "JSON"),
        (int, "\x1b[31m\n", r"not '\\x1b\[31m"),
    ],
)
def test_what_does_not_fit_is_a_usage_error_in_one_printable_line(hint: Any, text: str, says: str) -> None:
    with pytest.raises(UsageError, check=saying(says)) as raised:
        parse_parameters(taking(hint), [("value", text)], None)
    assert str(raised.value).isprintable()
    assert "pydantic.dev" not in str(raised.value)


@given(st.text())
def test_text_stays_text_whatever_it_looks_like(text: str) -> None:
    assert through(str, text) == text


@given(st.integers(-(10**30), 10**30))
def test_whole_numbers_of_any_size_come_through(number: int) -> None:
    assert through(int, str(number)) == number


@given(JSON)
def test_json_of_any_shape_comes_through_a_params_file_and_the_row(value: Any) -> None:
    spec = taking(Any)
    stored = parse_parameters(spec, [], {"value": json.loads(json.dumps(value))})
    assert bind_parameters(spec, json.loads(json.dumps(stored))) == {"value": value}


@given(
    st.sampled_from([int, bool, float, date, list[int], dict[str, int], Item, Colour, Literal[1], Path, timedelta, int | None]), st.text()
)
def test_any_text_for_any_type_is_a_json_value_or_a_usage_error(hint: Any, text: str) -> None:
    spec = taking(hint)
    try:
        stored = parse_parameters(spec, [("value", text)], None)
    except UsageError:
        return
    assert parse_parameters(spec, [], stored) == stored
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored


def test_defaults_are_recorded_so_that_a_resumed_run_keeps_them() -> None:
    def function(
        ctx: object,
        inbox: str = "inbox.jsonl",
        tags: Sequence[str] = ("a",),
        since: date = date(2026, 1, 1),
        colour: Colour = Colour.RED,
        limit: int = None,  # type: ignore[assignment]  # noqa: RUF013 - as people write it
        item: Item = Item(title="x"),
    ) -> None: ...

    spec = spec_of(function)
    stored = parse_parameters(spec, [], None)
    assert stored == {
        "inbox": "inbox.jsonl",
        "tags": ["a"],
        "since": "2026-01-01",
        "colour": "red",
        "limit": None,
        "item": {"title": "x", "w": 1.0},
    }
    bound = bind_parameters(spec, stored)
    assert (bound["since"], bound["colour"], bound["limit"], bound["item"]) == (date(2026, 1, 1), Colour.RED, None, Item(title="x"))


def test_a_typed_parameter_goes_before_the_file_and_the_file_before_the_default() -> None:
    def function(ctx: object, a: int = 1, b: int = 1, c: int = 1) -> None: ...

    assert parse_parameters(spec_of(function), [("a", "3")], {"a": 2, "b": 2}) == {"a": 3, "b": 2, "c": 1}


def test_an_unknown_parameter_is_told_the_known_ones() -> None:
    def function(ctx: object, inbox: str = "inbox.jsonl", *, limit: int | None = None, mode: Literal["a", "b"]) -> None: ...

    says = (
        r"job 'triage' has no parameter 'inbx'; its parameters are inbox: str = 'inbox.jsonl'; limit: int \| None = None; mode: 'a' \| 'b'$"
    )
    for pairs, extra in (([("inbx", "x")], None), ([], {"inbx": 1})):
        with pytest.raises(UsageError, check=saying(says)):
            parse_parameters(spec_of(function), pairs, extra)
    with pytest.raises(UsageError, match="no parameter 'ctx'"):
        parse_parameters(spec_of(function), [("ctx", "x")], None)
    with pytest.raises(UsageError, check=saying("it has no parameters")):
        parse_parameters(spec_of(lambda ctx: ctx), [("x", "y")], None)


def test_a_missing_parameter_and_one_given_twice_are_usage_errors() -> None:
    with pytest.raises(UsageError, match=r"needs the parameter 'value': -p value="):
        parse_parameters(taking(int), [], None)
    with pytest.raises(UsageError, match="given twice"):
        parse_parameters(taking(int), [("value", "1"), ("value", "2")], None)


@pytest.mark.parametrize(("hint", "value"), [(int, "five"), (str, 5), (list[int], "x"), (float, math.inf), (Colour, "green"), (int, None)])
def test_an_ill_typed_value_of_a_params_file_is_a_usage_error(hint: Any, value: Any) -> None:
    with pytest.raises(UsageError, match="parameter 'value'"):
        parse_parameters(taking(hint), [], {"value": value})


@pytest.mark.parametrize(
    ("hint", "default", "says"),
    [
        (int, ("five",), "the default of 'value' does not fit its type int"),
        (object.__init__.__class__, (), "cannot be read from text"),
        (SecretStr, ("x",), "is a secret"),
        (float, (math.nan,), "the default of 'value'"),
        ("Nowhere", (), "cannot be read: name 'Nowhere' is not defined"),
    ],
)
def test_a_job_whose_parameters_cannot_work_is_a_configuration_error(hint: Any, default: tuple[Any, ...], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_parameters(taking(hint, *default))


def test_types_written_as_text_are_read_and_the_contexts_need_not_exist() -> None:
    def function(ctx: "RunContext", colour: "Colour", limit: "int | None" = None) -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821

    assert bind_parameters(spec_of(function), {"colour": "red", "limit": 5}) == {"colour": Colour.RED, "limit": 5}


def test_a_row_of_another_version_of_the_job_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"no parameter 'gone' any more"):
        bind_parameters(taking(int), {"value": 1, "gone": 2})
    with pytest.raises(ConfigurationError, match=r"now needs a parameter 'value'"):
        bind_parameters(taking(int), {})
    with pytest.raises(ConfigurationError, match=r"had other parameters: .*must be int"):
        bind_parameters(taking(int), {"value": "x"})
    assert bind_parameters(taking(int, 7), {}) == {}


def test_parameters_are_described_for_people() -> None:
    def function(
        ctx: object,
        needed: Path,
        inbox: InputFile = "inbox.jsonl",
        other: InputFile | None = None,
        tags: list[str] | dict[str, int] = [],  # noqa: B006
    ) -> None: ...

    assert [
        (info.name, info.type_text, info.default_text, info.required, info.input) for info in describe_parameters(spec_of(function))
    ] == [
        ("needed", "Path", None, True, False),
        ("inbox", "str", "'inbox.jsonl'", False, True),
        ("other", "str | None", "None", False, True),
        ("tags", "list[str] | dict[str, int]", "[]", False, False),
    ]
