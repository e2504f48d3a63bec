"""Times in the past as a person types them, in the zone of the machine."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from taskpilot.domain.ids import new_id, smallest_id
from taskpilot.domain.times import parse_past, utc_now

NOW = datetime(2026, 11, 24, 6, 30, tzinfo=UTC)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("tz", "text", "expected"),
    [
        ("UTC", "18:00", "2026-11-23T18:00"),
        ("UTC", "06:30", "2026-11-24T06:30"),
        ("Asia/Tokyo", "15:00", "2026-11-24T06:00"),
        ("Asia/Tokyo", "yesterday", "2026-11-22T15:00"),
        ("America/New_York", "yesterday", "2026-11-23T05:00"),
        ("America/New_York", "today", "2026-11-24T05:00"),
        ("Europe/Berlin", "2026-11-23", "2026-11-22T23:00"),
        ("Europe/Berlin", "2026-07-01T07:00", "2026-07-01T05:00"),
        ("Europe/Berlin", "2026-11-24T07:00+05:00", "2026-11-24T02:00"),
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T01:30"),
        ("Europe/Berlin", "12h", "2026-11-23T18:30"),
        ("Europe/Berlin", "1d12h", "2026-11-22T18:30"),
    ],
)
def test_a_typed_time_is_read_in_the_zone_of_the_machine(zone: pytest.MonkeyPatch, tz: str, text: str, expected: str) -> None:
    zone.setenv("TZ", tz)
    time.tzset()
    assert parse_past(text, NOW) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "12", "2026-13-01", "9999999999d", "0s", "18:00:99"])
def test_what_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="18:00, 12h, yesterday"):
        parse_past(text, NOW)


def test_ids_of_an_instant_lie_between_its_bounds() -> None:
    before = utc_now()
    made = new_id()
    assert smallest_id(before) <= made < smallest_id(before.replace(year=before.year + 1))
