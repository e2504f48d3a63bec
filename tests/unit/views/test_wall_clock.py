"""Times that a person types."""

from datetime import UTC, datetime

import pytest

from taskpilot.domain.errors import UsageError
from taskpilot.views.wall_clock import asked_moment

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "asked"),
    [
        ("07:00", "Europe/Berlin", "2026-11-30T06:00+00:00"),
        ("7:00", "Europe/Berlin", "2026-11-30T06:00+00:00"),
        # Not yet today.
        ("13:30", "Europe/Berlin", "2026-11-29T12:30+00:00"),
        # In Tokyo it is nine in the evening.
        ("20:00", "Asia/Tokyo", "2026-11-30T11:00+00:00"),
        ("22:00", "Asia/Tokyo", "2026-11-29T13:00+00:00"),
        ("12:00", "UTC", "2026-11-30T12:00+00:00"),
        ("2026-11-24T07:00", "Europe/Berlin", "2026-11-24T06:00+00:00"),
    ],
)
def test_a_time_without_a_date_is_the_latest_before_now(text: str, zone: str, asked: str) -> None:
    assert asked_moment(text, zone, NOON)[0] == datetime.fromisoformat(asked)


@pytest.mark.parametrize("text", ["25:00", "7:60", ":30", "7", "07:00:"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        asked_moment(text, "UTC", NOON)
