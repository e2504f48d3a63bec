"""Warnings of nights on which a clock is set: which schedules get one, and what it says."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import pytest

from taskpilot.schedules.clock_changes import LOOK_AHEAD, WARNINGS_MAX, ChangeKind, clock_changes, clock_warnings
from taskpilot.schedules.schedule import at, cron, every
from tests.unit.schedules.proof import oracle

NOW = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)
DAY = timedelta(days=1)


def said(line: str, zone: str = "Europe/Berlin") -> list[str]:
    return [warning.sentence for warning in clock_warnings(cron(line, timezone=zone), NOW, within=timedelta(days=300))]


def test_a_fixed_time_is_told_when_it_runs_instead_and_that_it_runs_once() -> None:
    assert said("30 2 * * *") == [
        "on Sun 2026-03-29 the clock in Europe/Berlin skips 02:30; the job runs at 03:00 CEST, once",
        "on Sun 2026-10-25 the clock in Europe/Berlin repeats 02:30; the job runs once, at the first 02:30 (CEST)",
    ]


def test_several_fixed_times_are_told_in_one_sentence() -> None:
    assert said("15,45 2 * * *") == [
        "on Sun 2026-03-29 the clock in Europe/Berlin skips 02:15 and 02:45; the job runs at 03:00 CEST, once",
        "on Sun 2026-10-25 the clock in Europe/Berlin repeats 02:15 and 02:45; the job runs once at each, the first time (CEST)",
    ]
    assert "skips 02:00 to 02:45 (4 fires); the job runs at 03:00 CEST, once" in said("0,15,30,45 2 * * *")[0]


def test_a_star_is_told_where_elapsed_time_loses_or_adds_a_fire() -> None:
    assert said("0 */2 * * *", "America/New_York") == [
        "on Sun 2026-03-08 the clock in America/New_York skips 02:00; the job does not run then: a * follows elapsed time"
    ]
    assert said("*/30 1 * * *", "America/New_York") == [
        "on Sun 2026-11-01 the clock in America/New_York repeats 01:00 and 01:30; the job runs both times: a * follows elapsed time"
    ]
    assert said("* 0-5 * * *")[0].endswith("skips 02:00 to 02:59 (60 fires); the job does not run then: a * follows elapsed time")


@pytest.mark.parametrize("line", ["* * * * *", "*/7 * * * *", "0 * * * *", "@hourly", "*/15 * * * mon", "5,35 * 29 3 *"])
def test_what_goes_on_by_elapsed_time_as_on_other_days_is_not_warned_of(line: str) -> None:
    assert said(line) == []


def test_each_hour_is_warned_of_where_the_clock_is_set_by_half_an_hour() -> None:
    (gap,) = said("0 * * * *", "Australia/Lord_Howe")
    assert "on Sun 2026-10-04 the clock in Australia/Lord_Howe skips 02:00; the job does not run then" in gap
    (fold,) = said("45 * * * *", "Australia/Lord_Howe")
    assert "on Sun 2026-04-05 the clock in Australia/Lord_Howe repeats 01:45; the job runs both times" in fold
    assert said("*/30 * * * *", "Australia/Lord_Howe") == []


@pytest.mark.parametrize("line", ["0 7 * * mon-fri", "0 3 * * *", "59 1 * * *", "30 2 * * mon-sat", "30 2 1 * *"])
def test_what_no_clock_skips_or_repeats_is_not_warned_of(line: str) -> None:
    assert said(line) == []


def test_a_midnight_that_does_not_exist_is_told_in_the_offset_of_its_zone() -> None:
    assert said("0 0 * * *", "America/Santiago") == [
        "on Sun 2026-09-06 the clock in America/Santiago skips 00:00; the job runs at 01:00 -03, once"
    ]


def test_a_period_and_an_instant_have_no_clock() -> None:
    assert clock_warnings(every("1h"), NOW) == clock_warnings(at("2026-03-29T02:30Z"), NOW) == clock_warnings(None, NOW) == []
    assert said("30 2 * * *", "UTC") == said("30 2 * * *", "Asia/Tokyo") == []


def test_warnings_of_one_job_are_few() -> None:
    schedule = cron("30 2 * * *", timezone="Europe/Berlin")
    assert len(clock_warnings(schedule, NOW, within=timedelta(days=3000))) == WARNINGS_MAX


def test_what_is_warned_of_is_what_the_schedule_does() -> None:
    """In each zone and each kind of line: a fixed time's fire is at the end of the gap or at the first occurrence, a star's at each."""
    kinds: Counter[tuple[ChangeKind, bool]] = Counter()
    for zone in sorted(available_timezones() - {"localtime"}):
        for change in clock_changes(zone, NOW):
            wall = next(iter(change.walls)) + timedelta(minutes=7)
            for hours in (f"{wall.hour}", f"*/{wall.hour or 24}"):
                line = f"{wall.minute} {hours} {wall.day} {wall.month} *"
                schedule = cron(line, timezone=zone)
                warning = next((one for one in clock_warnings(schedule, NOW) if one.change == change), None)
                if warning is None:
                    assert "*" in hours
                    continue
                fires = list(schedule.between(change.at - timedelta(hours=3), change.at + timedelta(hours=3)))
                shown = [fire for fire in fires if oracle.face_at(zone, fire) == wall]
                first, second = wall.replace(tzinfo=UTC) - change.before, wall.replace(tzinfo=UTC) - change.after
                match change.kind, warning.elapsed:
                    case ChangeKind.GAP, False:
                        assert fires == [change.at], (zone, line)
                    case ChangeKind.FOLD, False:
                        assert fires == [first], (zone, line)
                    case ChangeKind.GAP, True:
                        assert shown == [], (zone, line)
                    case _:
                        assert shown == [first, second], (zone, line)
                kinds[change.kind, warning.elapsed] += 1
    assert min(kinds.values()) > 20, kinds
    assert len(kinds) == 4


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Africa/Casablanca", "Antarctica/Troll", "Australia/Lord_Howe", "Asia/Tokyo"])
def test_the_settings_of_a_clock_are_those_that_one_finds_hour_by_hour(zone: str) -> None:
    found = [change.at for change in clock_changes(zone, NOW)]
    assert found == list(oracle.changes(zone, NOW.replace(second=0, microsecond=0), NOW + LOOK_AHEAD, timedelta(hours=1)))


def test_a_schedule_of_every_minute_is_looked_at_in_no_time() -> None:
    """Only at the minutes that are skipped or repeated: 400 days have 576,000 others."""
    schedule = cron("* * * * *", timezone="Europe/Berlin")
    started = time.process_time()
    assert clock_warnings(schedule, NOW) == []
    assert time.process_time() - started < 0.5
