"""Durations as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.times import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800), ("250ms", 0.25), ("1m1m", 120), ("0h5s", 5), ("1d2h3m4s5ms", 93_784.005)],
)
def test_units_are_days_to_milliseconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


def test_a_timedelta_is_taken_as_it_is() -> None:
    assert parse_duration(timedelta(microseconds=1)) == timedelta(microseconds=1)


@pytest.mark.parametrize("value", ["", "15", "15 m", " 15m", "m", "1.5h", "-5m", "5M", "5w", "15m\n", "\uff11\uff15m", None, 15, b"15m"])
def test_what_is_no_duration_is_told_the_form(value: object) -> None:
    with pytest.raises(ValueError, match='"15m"'):
        parse_duration(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["0s", "0h0m", timedelta(0), timedelta(seconds=-1)])
def test_nothing_and_less_is_no_duration(value: str | timedelta) -> None:
    with pytest.raises(ValueError, match="longer than zero"):
        parse_duration(value)


def test_a_duration_beyond_the_calendar_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="too long"):
        parse_duration("9" * 30 + "d")


@given(st.timedeltas(timedelta(milliseconds=1), timedelta(days=100_000)).map(lambda d: d - d % timedelta(milliseconds=1)))
def test_what_is_written_is_read_back(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(("seconds", "text"), [(5400, "1h30m"), (900, "15m"), (86_400, "1d"), (0.0015, "1ms"), (0, "0s"), (0.0001, "0s")])
def test_the_shortest_text_is_written(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text
