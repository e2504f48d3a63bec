"""The nights on which the clocks are changed, tick by tick: each fire of hand-written lists has its outcome, no others are."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from taskpilot.domain.times import utc_now
from taskpilot.testing import ManualClock
from tests.keeper import Keeper, make_root
from tests.unit.scheduler.conftest import Keep

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Night:
    """From when to when a scheduler ticks, in UTC, and when jobs are due; a time before the start is of the next day."""

    zone: str
    start: str
    end: str
    fires: dict[str, str]


NIGHTS = {
    # 02:00 becomes 03:00 at 01:00 UTC.
    "Berlin in spring": Night(
        "Europe/Berlin",
        "2026-03-28T22:40",
        "02:10",
        {
            "30 2 * * *": "01:00",
            "0 1-4 * * *": "00:00 01:00 02:00",
            "*/30 2 * * *": "",
            "0 * * * *": "23:00 00:00 01:00 02:00",
            "@hourly": "23:00 00:00 01:00 02:00",
            "0 0 * * *": "23:00",
            "@daily": "23:00",
            "*/15 * * * *": "22:45 23:00 23:15 23:30 23:45 00:00 00:15 00:30 00:45 01:00 01:15 01:30 01:45 02:00",
        },
    ),
    # 03:00 becomes 02:00 at 01:00 UTC.
    "Berlin in autumn": Night(
        "Europe/Berlin",
        "2026-10-24T21:50",
        "02:10",
        {
            "30 2 * * *": "00:30",
            "0 1-4 * * *": "23:00 00:00 02:00",
            "*/30 2 * * *": "00:00 00:30 01:00 01:30",
            "0 * * * *": "22:00 23:00 00:00 01:00 02:00",
            "0 0 * * *": "22:00",
            "*/15 * * * *": "22:00 22:15 22:30 22:45 23:00 23:15 23:30 23:45 00:00 00:15 00:30 00:45 01:00 01:15 01:30 01:45 02:00",
        },
    ),
    # 02:00 becomes 03:00 at 07:00 UTC.
    "New York in spring": Night(
        "America/New_York",
        "2026-03-08T04:50",
        "08:10",
        {"30 2 * * *": "07:00", "*/30 2 * * *": "", "0 * * * *": "05:00 06:00 07:00 08:00", "0 0 * * *": "05:00", "15 3 * * *": "07:15"},
    ),
    # 02:00 becomes 01:00 at 06:00 UTC.
    "New York in autumn": Night(
        "America/New_York",
        "2026-11-01T03:50",
        "07:10",
        {
            "30 1 * * *": "05:30",
            "*/30 1 * * *": "05:00 05:30 06:00 06:30",
            "0 * * * *": "04:00 05:00 06:00 07:00",
            "0 0 * * *": "04:00",
            "0 2 * * *": "07:00",
        },
    ),
    # Midnight becomes 01:00 at 04:00 UTC.
    "Santiago in spring": Night(
        "America/Santiago",
        "2026-09-06T02:50",
        "05:10",
        {"0 0 * * *": "04:00", "30 0 * * *": "04:00", "*/30 0 * * *": "", "0 * * * *": "03:00 04:00 05:00", "@daily": "04:00"},
    ),
    # Midnight becomes 23:00 of the evening before, at 03:00 UTC.
    "Santiago in autumn": Night(
        "America/Santiago",
        "2026-04-05T01:50",
        "04:10",
        {
            "30 23 * * *": "02:30",
            "*/30 23 * * *": "02:00 02:30 03:00 03:30",
            "0 0 * * *": "04:00",
            "0 * * * *": "02:00 03:00 04:00",
        },
    ),
    # 02:00 becomes 02:30 at 15:30 UTC; before that, the zone is ten and a half hours ahead.
    "Lord Howe in spring": Night(
        "Australia/Lord_Howe",
        "2026-10-03T13:20",
        "16:10",
        {"15 2 * * *": "15:30", "0 2 * * *": "15:30", "0 * * * *": "13:30 14:30 16:00", "0 0 * * *": "13:30", "*/30 2 * * *": "15:30"},
    ),
    # 02:00 becomes 01:30 at 15:00 UTC; after that, the zone is ten and a half hours ahead.
    "Lord Howe in autumn": Night(
        "Australia/Lord_Howe",
        "2026-04-04T12:50",
        "15:40",
        {
            "45 1 * * *": "14:45",
            "*/15 1 * * *": "14:00 14:15 14:30 14:45 15:00 15:15",
            "0 * * * *": "13:00 14:00 15:30",
            "0 0 * * *": "13:00",
        },
    ),
}


@pytest.mark.parametrize("name", NIGHTS)
def test_each_fire_of_the_night_has_exactly_its_outcome(keep: Keep, name: str) -> None:
    night = NIGHTS[name]
    start, end = _moments(night, night.end)[0], _moments(night, night.end)[1]
    lines = dict(zip([f"job_{letter}" for letter in "abcdefgh"], night.fires.items(), strict=False))
    jobs = {job: f'schedule=cron("{line}", timezone="{night.zone}")' for job, (line, _) in lines.items()}
    keeper = keep(keeper={"clock": ManualClock(start)}, **jobs)
    keeper.ticks(end - start)
    assert len(lines) == len(night.fires)
    for job, (line, fires) in lines.items():
        assert keeper.outcomes(job) == dict.fromkeys(_moments(night, fires)[1:], "started"), line
    assert keeper.clock_events() == []


def test_a_frozen_clock_is_the_only_one_that_is_asked(tmp_path: Path) -> None:
    """The same by the wall clock: another clock would show a time that is not in this night."""
    root = make_root(tmp_path, fixed='schedule=cron("30 2 * * *", timezone="Europe/Berlin")', often='schedule=every("1m")')
    start = datetime(2026, 10, 25, 0, 29, 50, tzinfo=UTC)
    with freeze_time(start) as frozen:
        keeper = Keeper(root, clock=utc_now)
        try:
            keeper.start()
            for _ in range(8):
                frozen.tick(timedelta(seconds=15))
                keeper.tick()
            assert keeper.scheduler.error is None
            half = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
            assert keeper.outcomes("fixed") == {half: "started"}
            assert keeper.outcomes("often") == {half: "started", half + timedelta(minutes=1): "started"}
            assert keeper.clock_events() == []
            times = [
                (table, column, row["at"])
                for column, table in _TIMES
                for row in keeper.rows(f"SELECT {column} AS at FROM {table} WHERE {column} IS NOT NULL")
            ]
            assert len(times) > 20
            assert [one for one in times if not 0 <= one[2] - start.timestamp() * 1e6 <= 120_000_000] == []
        finally:
            keeper.close()


_TIMES = [
    ("recorded_at", "fires"),
    ("started_at", "runs"),
    ("ended_at", "runs"),
    ("created_at", "runs"),
    ("started_at", "attempts"),
    ("since", "schedules"),
    ("cursor", "schedules"),
    ("started_at", "schedulers"),
    ("last_tick_at", "schedulers"),
]


def _moments(night: Night, times: str) -> list[datetime]:
    """The start of the night and the times after it."""
    found = [datetime.fromisoformat(night.start).replace(tzinfo=UTC)]
    for text in times.split():
        hour, minute = map(int, text.split(":"))
        moment = found[0].replace(hour=hour, minute=minute)
        found.append(moment if moment > found[0] else moment + timedelta(days=1))
    return found
