"""Instants as the store keeps them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.times import EPOCH, from_micros, to_micros, utc_now

OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=OFFSETS)  # noqa: DTZ001 - hypothesis wants naive bounds


@given(MOMENTS)
def test_no_microsecond_is_lost_on_the_way_and_back(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment
    assert from_micros(to_micros(moment)).tzinfo is UTC


@given(st.integers(-(10**16), 10**17))
def test_every_whole_number_comes_back(micros: int) -> None:
    assert to_micros(from_micros(micros)) == micros


def test_the_epoch_is_zero() -> None:
    assert to_micros(EPOCH) == 0
    assert to_micros(EPOCH - timedelta(microseconds=1)) == -1


def test_a_time_without_a_zone_is_no_instant() -> None:
    with pytest.raises(ValueError, match="zone"):
        to_micros(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the mistake


def test_now_is_aware_and_in_utc() -> None:
    assert utc_now().tzinfo is UTC
