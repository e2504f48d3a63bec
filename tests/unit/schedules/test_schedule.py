"""When a job is due, on ordinary days: the three kinds of schedule and what all of them promise."""

import pickle
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.schedule import Schedule
from taskpilot.schedules.schedule import at, catch_up_window, cron, every

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Asia/Kathmandu")
LINES = (
    "0 7 * * mon-fri",
    "30 2 * * *",
    "15,45 1-3 * * *",
    "*/20 * * * *",
    "7 */5 * * *",
    "* 2 * * 0",
    "0 0 * * *",
    "0 0 1 * mon",
    "59 23 31 * *",
    "0 0 */2 * 7",
    "0 12 29 2 *",
    "@weekly",
)

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - no instant: to be refused


def moments() -> st.SearchStrategy[datetime]:
    return st.datetimes(datetime(2019, 1, 1), datetime(2031, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


def schedules() -> st.SearchStrategy[Schedule]:
    crons = st.builds(lambda line, zone: cron(line, timezone=zone), st.sampled_from(LINES), st.sampled_from(ZONES))
    periods = st.timedeltas(timedelta(seconds=1), timedelta(days=40))
    return crons | st.builds(lambda period, anchor: every(period, anchor=anchor), periods, moments()) | st.builds(at, moments())


def utc(*parts: int) -> datetime:
    year, month, day, hour, minute, second = (*parts, 0, 0, 0)[:6]
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


@given(schedules(), moments(), st.timedeltas(timedelta(0), timedelta(days=30)))
def test_between_gives_what_next_after_gives_one_by_one(schedule: Schedule, start: datetime, length: timedelta) -> None:
    fires = list(schedule.between(start, start + length, limit=30))
    one_by_one: list[datetime] = []
    fire = schedule.next_after(start)
    while fire is not None and fire <= start + length and len(one_by_one) < 30:
        one_by_one.append(fire)
        fire = schedule.next_after(fire)
    assert fires == one_by_one


@given(schedules(), moments())
def test_fires_are_in_utc_strictly_increase_and_lie_after_the_start(schedule: Schedule, start: datetime) -> None:
    fires = list(schedule.between(start, start + timedelta(days=400), limit=20))
    assert all(fire.tzinfo is UTC and fire > start for fire in fires)
    assert all(before < after for before, after in pairwise(fires))


@given(schedules(), moments(), st.timedeltas(timedelta(0), timedelta(days=20)))
def test_no_fire_hides_between_two_others(schedule: Schedule, start: datetime, ahead: timedelta) -> None:
    """Asked from any later time before a fire, the answer is that same fire: it does not depend on the way to it."""
    first = schedule.next_after(start)
    if first is not None and start + ahead < first:
        assert schedule.next_after(start + ahead) == first


@given(schedules(), moments(), st.timedeltas(timedelta(0), timedelta(days=3)))
def test_the_latest_fire_is_the_last_of_those_in_its_window(schedule: Schedule, moment: datetime, within: timedelta) -> None:
    in_window = list(schedule.between(moment - within - timedelta(microseconds=1), moment))[-1:]
    latest = schedule.latest_at_or_before(moment, within=within)
    assert ([] if latest is None else [latest]) == in_window


@given(moments(), moments())
def test_an_interval_is_open_at_its_start_and_closed_at_its_end(anchor: datetime, other: datetime) -> None:
    schedule = every("1h", anchor=anchor)
    assert list(schedule.between(anchor, anchor + timedelta(hours=2))) == [anchor + timedelta(hours=1), anchor + timedelta(hours=2)]
    assert list(schedule.between(other, other)) == []


def test_the_contracts_example_fires_on_workdays_at_seven_in_berlin() -> None:
    schedule = cron("0 7 * * mon-fri", timezone="Europe/Berlin")
    fires = list(schedule.between(utc(2026, 3, 26, 12), utc(2026, 4, 1)))
    assert fires == [utc(2026, 3, 27, 6), utc(2026, 3, 30, 5), utc(2026, 3, 31, 5)]
    assert schedule.zone == "Europe/Berlin"
    assert schedule.describe() == "cron 0 7 * * mon-fri (Europe/Berlin)"


def test_a_period_counts_elapsed_time_from_the_epoch() -> None:
    schedule = every("15m")
    assert schedule.next_after(utc(2026, 3, 29, 0, 59, 59)) == utc(2026, 3, 29, 1)
    assert schedule.next_after(utc(2026, 3, 29, 1)) == utc(2026, 3, 29, 1, 15)
    assert schedule.describe() == "every 15m"


def test_an_anchor_gives_the_phase_in_both_directions() -> None:
    schedule = every("1d", anchor="2026-06-01T03:30+02:00")
    assert schedule.next_after(utc(2026, 1, 1)) == utc(2026, 1, 1, 1, 30)
    assert schedule.describe() == "every 1d from 2026-06-01T01:30:00Z"


def test_one_instant_fires_once() -> None:
    schedule = at("2026-12-24T08:00+01:00")
    assert schedule.next_after(utc(2026, 1, 1)) == utc(2026, 12, 24, 7)
    assert schedule.next_after(utc(2026, 12, 24, 7)) is None
    assert schedule.period_hint(utc(2026, 1, 1)) is None
    assert schedule.describe() == "at 2026-12-24T07:00:00Z"


def test_a_time_in_any_zone_is_taken_as_the_instant_it_is() -> None:
    schedule = cron("0 12 * * *")
    assert schedule.next_after(datetime(2026, 6, 1, 13, 59, tzinfo=timezone(timedelta(hours=2)))) == utc(2026, 6, 1, 12)


@pytest.mark.parametrize("schedule", [cron("0 0 * * *"), every("1h"), at(utc(2026, 1, 1))])
def test_a_time_without_a_zone_is_refused(schedule: Schedule) -> None:
    for ask in (schedule.next_after, schedule.period_hint):
        with pytest.raises(ValueError, match="zone"):
            ask(NAIVE)
    with pytest.raises(ValueError, match="zone"):
        schedule.between(NAIVE, utc(2026, 1, 2))
    with pytest.raises(ValueError, match="zone"):
        schedule.latest_at_or_before(NAIVE, within=timedelta(1))


def test_schedules_are_values_that_compare_hash_and_travel() -> None:
    for one, other in (
        (cron("@daily", timezone="Europe/Berlin"), cron("0 0 * * *", timezone="Europe/Berlin")),
        (every("90m"), every("1h30m")),
        (at("2026-12-24T08:00Z"), at("2026-12-24T09:00+01:00")),
    ):
        assert len({one, other, pickle.loads(pickle.dumps(one))}) == 1
    assert cron("@daily") == cron(" 0  0 * * * ")
    assert cron("@daily") != cron("@daily", timezone="Europe/Berlin")
    assert every("60m") == every("1h")


def test_the_end_of_the_calendar_is_an_end_and_not_a_crash() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    for schedule in (cron("0 0 * * *", timezone="America/New_York"), cron("* * * * *", timezone="Asia/Tokyo"), every("1d")):
        assert schedule.next_after(last) is None
    assert every("1d").latest_at_or_before(utc(2026, 1, 1, 5), within=timedelta.max) == utc(2026, 1, 1)
    assert cron("0 0 1 * *").latest_at_or_before(utc(2026, 1, 20), within=timedelta(days=365_000)) == utc(2026, 1, 1)


@pytest.mark.parametrize(
    ("schedule", "window"),
    [
        (every("10s"), timedelta(minutes=2)),
        (every("1h"), timedelta(minutes=30)),
        (cron("@monthly"), timedelta(hours=12)),
        (at("2026-12-24T08:00Z"), timedelta(hours=12)),
    ],
)
def test_the_default_window_is_half_a_period_within_its_bounds(schedule: Schedule, window: timedelta) -> None:
    assert catch_up_window(schedule, utc(2026, 1, 1)) == window
    assert catch_up_window(schedule, utc(2026, 1, 1), chosen=timedelta(days=2)) == timedelta(days=2)


@pytest.mark.parametrize("period", ["0s", "-1h", "soon", "1.5h", "", "500ms", timedelta(0), timedelta(-1), 5, None])
def test_a_period_that_is_none_is_refused(period: object) -> None:
    with pytest.raises(ValueError, match=r"duration|longer|shorter"):
        every(period)  # type: ignore[arg-type]


@pytest.mark.parametrize("when", ["2026-12-24T08:00", "2026-12-24", "tomorrow", "", None, 5, NAIVE, "0001-01-01T00:00+14:00"])
def test_a_moment_that_is_no_instant_is_refused(when: object) -> None:
    with pytest.raises(ValueError, match=r"offset|ISO 8601|calendar"):
        at(when)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "zone", ["Europe/Belin", "", "localtime", "right/Europe/Berlin", "../etc/passwd", "/etc/passwd", "Europe", "+02:00", None, 7]
)
def test_a_zone_that_is_no_iana_name_is_refused_by_name(zone: object) -> None:
    with pytest.raises(ValueError, match="IANA") as raised:
        cron("@daily", timezone=zone)  # type: ignore[arg-type]
    assert repr(zone) in str(raised.value)


def test_a_mistyped_zone_is_told_its_likely_name() -> None:
    with pytest.raises(ValueError, match="Europe/Berlin"):
        cron("@daily", timezone="Europe/Belin")
