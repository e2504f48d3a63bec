"""How many fires there are in a stretch of time, without going through them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.schedule import Schedule
from taskpilot.schedules.schedule import at, cron, every

LINES = [
    "* * * * *",
    "*/15 * * * *",
    "0 * * * *",
    "30 2 * * *",
    "0 0 * * *",
    "0,30 0,23 * * *",
    "0 7 * * mon-fri",
    "0 12 1 */2 *",
    "5 4 29 2 *",
]
ZONES = ["UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca", "America/New_York", "Asia/Kathmandu"]
YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def gone_through(schedule: Schedule, start: datetime, end: datetime) -> int:
    return sum(1 for _ in schedule.between(start, end))


@given(
    st.sampled_from(LINES),
    st.sampled_from(ZONES),
    st.integers(0, 365 * 24 * 60),
    st.integers(-60, 12 * 24 * 60),
    st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(seconds=30)]),
)
def test_the_count_is_what_one_finds_by_going_through(line: str, zone: str, minute: int, minutes: int, odd: timedelta) -> None:
    schedule = cron(line, timezone=zone)
    start = YEAR + timedelta(minutes=minute) + odd
    end = start + timedelta(minutes=minutes)
    assert schedule.count_between(start, end) == gone_through(schedule, start, end)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("line", LINES[2:])
def test_a_year_with_its_changes_of_the_clock_is_counted_as_it_is(line: str, zone: str) -> None:
    schedule = cron(line, timezone=zone)
    assert schedule.count_between(YEAR, YEAR + timedelta(days=365)) == gone_through(schedule, YEAR, YEAR + timedelta(days=365))


@pytest.mark.parametrize("schedule", [every("7m", anchor="2026-01-01T00:01Z"), at("2026-01-01T05:00Z")])
def test_periods_and_instants_are_counted_too(schedule: Schedule) -> None:
    for hours in (0, 1, 5, 6):
        end = YEAR + timedelta(hours=hours)
        assert schedule.count_between(YEAR, end) == gone_through(schedule, YEAR, end)
