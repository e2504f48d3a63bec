"""Nights on which the clock is set: Vixie's rules, and an oracle that looks at every minute."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

import pytest

from taskpilot.schedules.schedule import cron

NIGHTS = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "America/Santiago": ("2026-04-04", "2026-09-06"),  # midnight itself is skipped, and 23:00 repeated
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),  # by half an hour
    "America/Havana": ("2026-03-08", "2026-11-01"),
    "America/St_Johns": ("2010-03-14", "2010-11-07"),  # at 00:01, so that the repeated hour spans midnight
    "Pacific/Apia": ("2011-12-30",),  # the day does not exist
    "Africa/Casablanca": ("2026-02-15", "2026-03-22"),
}


def local(zone: str, text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


def fires(line: str, zone: str, day: str) -> list[str]:
    """The fires around a night, as the clock on the wall shows them, with the offset in hours."""
    start = local(zone, f"{day}T00:00") - timedelta(hours=26)
    return [
        f"{fire.astimezone(ZoneInfo(zone)):%d %H:%M%z}" for fire in cron(line, timezone=zone).between(start, start + timedelta(hours=72))
    ]


def minutes(zone: str, day: str) -> Iterator[tuple[datetime, datetime]]:
    """Every minute of three days around a night: the instant, and the wall clock's face."""
    start = local(zone, f"{day}T00:00") - timedelta(hours=36)
    for minute in range(72 * 60):
        instant = start + timedelta(minutes=minute)
        yield instant, instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


@pytest.mark.parametrize(
    ("line", "zone", "day", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", ["28 02:30+0100", "29 03:00+0200", "30 02:30+0200"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"]),
        ("0 0 * * *", "Europe/Berlin", "2026-03-29", ["28 00:00+0100", "29 00:00+0100", "30 00:00+0200"]),
        (
            "0 2,3 * * *",
            "America/New_York",
            "2026-03-08",
            ["07 02:00-0500", "07 03:00-0500", "08 03:00-0400", "09 02:00-0400", "09 03:00-0400"],
        ),
        ("30 1 * * *", "America/New_York", "2026-11-01", ["31 01:30-0400", "01 01:30-0400", "02 01:30-0500"]),
        ("0 0 * * *", "America/Santiago", "2026-09-06", ["05 00:00-0400", "06 01:00-0300", "07 00:00-0300"]),
        ("30 23 * * *", "America/Santiago", "2026-04-05", ["03 23:30-0300", "04 23:30-0300", "05 23:30-0400"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["03 02:15+1030", "04 02:30+1100", "05 02:15+1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["04 01:45+1100", "05 01:45+1100", "06 01:45+1030"]),
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-30", ["31 00:00+1400"]),
        ("30 */6 29 3 *", "Europe/Berlin", "2026-03-29", ["29 00:30+0100", "29 06:30+0200", "29 12:30+0200", "29 18:30+0200"]),
        ("*/30 0-1 6 9 *", "America/Santiago", "2026-09-06", ["06 01:00-0300", "06 01:30-0300"]),
        ("*/30 0 6 9 *", "America/Santiago", "2026-09-06", []),
        ("*/20 2 5 4 *", "Australia/Lord_Howe", "2026-04-05", ["05 02:00+1030", "05 02:20+1030", "05 02:40+1030"]),
    ],
)
def test_a_night_fires_as_vixie_says(line: str, zone: str, day: str, expected: list[str]) -> None:
    assert fires(line, zone, day) == expected


@pytest.mark.parametrize("line", ["*/7 * * * *", "* 1-2 * * *", "5,35 * * * *", "*/30 0 * * *", "0 */2 * * *", "* 23 * * 6", "15 * 6 9 *"])
@pytest.mark.parametrize(("zone", "day"), [(zone, day) for zone, days in NIGHTS.items() for day in days])
def test_wildcards_follow_elapsed_time(line: str, zone: str, day: str) -> None:
    """They fire at exactly those minutes whose wall clock matches the line, which a cron without zones finds."""
    faces = list(minutes(zone, day))
    on_paper = {face for _, face in faces} & {
        fire.replace(tzinfo=None)
        for fire in cron(line).between(
            faces[0][1].replace(tzinfo=UTC) - timedelta(days=2), faces[-1][1].replace(tzinfo=UTC) + timedelta(days=2)
        )
    }
    expected = [instant for instant, face in faces if face in on_paper]
    assert list(cron(line, timezone=zone).between(faces[0][0] - timedelta(minutes=1), faces[-1][0])) == expected


@pytest.mark.parametrize("line", ["30 2 * * *", "15,45 0-3 * * *", "0 0 * * *", "59 23 * * *", "10 0,1,2 * * *"])
@pytest.mark.parametrize(("zone", "day"), [(zone, day) for zone, days in NIGHTS.items() for day in days])
def test_a_fixed_time_comes_once_whatever_the_clock_does(line: str, zone: str, day: str) -> None:
    """Each time on paper has its fire: at its first occurrence, or else at the first minute after the gap."""
    faces = list(minutes(zone, day))
    first_seen = {face: instant for instant, face in reversed(faces)}
    expected = set()
    for fire in cron(line).between(faces[0][1].replace(tzinfo=UTC) - timedelta(days=1), faces[-1][1].replace(tzinfo=UTC)):
        face = fire.replace(tzinfo=None)
        while face not in first_seen and face < faces[-1][1]:
            face += timedelta(minutes=1)
        expected.add(first_seen[face])
    expected.discard(faces[0][0])
    got = list(cron(line, timezone=zone).between(faces[0][0], faces[-1][0]))
    assert got == sorted(expected)


def test_each_minute_of_the_repeated_hour_has_its_fire_for_a_wildcard() -> None:
    per_day = {
        day: len(list(group)) for day, group in groupby(fires("*/30 * * * *", "Europe/Berlin", "2026-10-25"), key=lambda fire: fire[:2])
    }
    assert per_day["25"] == 50


def test_asked_within_the_repeated_hour_a_fixed_time_is_over() -> None:
    second = local("Europe/Berlin", "2026-10-25T02:10", fold=1)
    schedule = cron("30 2 * * *", timezone="Europe/Berlin")
    assert schedule.next_after(second) == local("Europe/Berlin", "2026-10-26T02:30")
    assert schedule.latest_at_or_before(second, within=timedelta(hours=1)) == local("Europe/Berlin", "2026-10-25T02:30")
