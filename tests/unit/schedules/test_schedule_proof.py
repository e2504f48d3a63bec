"""Schedules against an oracle that looks at every minute, in each zone whose clock is set between 2024 and 2034.

CI takes a sample. The whole proof, in a quarter of an hour:
TASKPILOT_NIGHTS=all .venv/bin/pytest -m slow -rP tests/unit/schedules/test_schedule_proof.py
"""

import os
import random
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo, available_timezones

import pytest

from taskpilot.domain.schedule import Schedule
from taskpilot.schedules.schedule import at, cron, every
from tests.unit.schedules.proof import oracle
from tests.unit.schedules.proof.lines import any_line, possible_line

pytestmark = pytest.mark.slow

NIGHTS = os.environ.get("TASKPILOT_NIGHTS", "60")
"""How many settings of a clock are looked at, by chance; `all` is each of them."""
ALL = NIGHTS == "all"
SEED = int(os.environ.get("TASKPILOT_NIGHTS_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
START, END = datetime(2024, 1, 1, tzinfo=UTC), datetime(2034, 1, 1, tzinfo=UTC)
SCAN = timedelta(hours=1 if ALL else 24)
"""How often a clock is looked at for having been set. A sample may overlook one that is set twice in a day."""
TINY = timedelta(microseconds=1)
ALWAYS = ("Africa/Casablanca", "America/Santiago", "Australia/Lord_Howe", "Europe/Berlin")
"""Ramadan, midnight, half an hour, and the contract's: each sample has one night of each."""
STRANGE = {
    "America/Caracas": 2007,
    "America/St_Johns": 2010,
    "Antarctica/Casey": 2020,
    "Asia/Pyongyang": 2015,
    "Pacific/Apia": 2011,
    "Pacific/Kwajalein": 1993,
}
"""Other years, looked at always: half an hour back, an hour that is repeated over midnight, three hours, dates that do not exist."""
NOT_IANA = {"localtime"}
"""A file of this machine that `available_timezones` lists."""

as_long_as_it_takes = pytest.mark.timeout(3600 if ALL else 120)


@cache
def zones() -> dict[str, list[datetime]]:
    """The zones whose clock is set, and when."""
    found = {zone: list(oracle.changes(zone, START, END, SCAN)) for zone in sorted(available_timezones() - NOT_IANA)}
    return {zone: changes for zone, changes in found.items() if changes}


def nights(rng: Random) -> list[tuple[str, datetime]]:
    every_one = [(zone, change) for zone, changes in zones().items() for change in changes]
    chosen = every_one if ALL else [(zone, rng.choice(zones()[zone])) for zone in ALWAYS] + rng.sample(every_one, int(NIGHTS))
    return chosen + [
        (zone, change)
        for zone, year in STRANGE.items()
        for change in oracle.changes(zone, datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC), SCAN)
    ]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Iterator[Random]:
    print(f"seed: TASKPILOT_NIGHTS_SEED={SEED}")  # noqa: T201 - pytest shows it where the test fails
    started = time.monotonic()
    yield Random(f"{SEED} {request.node.name}")
    print(f"{(time.monotonic() - started) / 60:.1f} minutes")  # noqa: T201


def report(counted: Counter[str]) -> None:
    print(", ".join(f"{number:,} {what}" for what, number in counted.items()))  # noqa: T201 - these are the figures


@as_long_as_it_takes
def test_around_each_setting_of_a_clock_the_fires_are_those_of_the_oracle(rng: Random) -> None:
    counted: Counter[str] = Counter({"zones whose clock is set": len(zones())})
    for zone, change in nights(rng):
        counted["settings of a clock"] += 1
        start, end = change - timedelta(hours=30), change + timedelta(hours=30)
        minutes = oracle.walk(zone, start, end)
        near = oracle.face_at(zone, change)
        before = oracle.face_at(zone, change - oracle.MINUTE)
        for text in nightly_lines(rng, near, before):
            counted["lines"] += 1
            counted["fires compared"] += compare(rng, text, zone, minutes, start, end, change)
        periodic(rng, zone, change, counted)
    report(counted)


def nightly_lines(rng: Random, near: datetime, before: datetime) -> list[str]:
    """Fixed times at the edges of what the clock skips or repeats, and lines by chance."""
    edges = [near, near - oracle.MINUTE, near + timedelta(minutes=15), before, before + oracle.MINUTE, before + timedelta(minutes=31)]
    return [f"{edge.minute} {edge.hour} * * *" for edge in edges] + [possible_line(rng, rng.choice(edges)) for _ in range(18)]


@as_long_as_it_takes
def test_on_ordinary_days_the_fires_are_those_of_the_oracle(rng: Random) -> None:
    counted: Counter[str] = Counter()
    for zone in sorted(zones()) if ALL else rng.sample(sorted(zones()), 12):
        counted["zones"] += 1
        for _ in range(4 if ALL else 2):
            start = START + timedelta(minutes=rng.randrange((END - START) // oracle.MINUTE), seconds=rng.randrange(60))
            end = start + timedelta(hours=48)
            minutes = oracle.walk(zone, start, end)
            counted["stretches of two days"] += 1
            for _ in range(12):
                text = possible_line(rng, rng.choice(minutes)[1])
                counted["lines"] += 1
                counted["fires compared"] += compare(rng, text, zone, minutes, start, end, start + oracle.HOUR * rng.randrange(48))
    report(counted)


@as_long_as_it_takes
def test_in_ten_years_a_fixed_time_is_neither_lost_nor_doubled(rng: Random) -> None:
    """Each date has its one fire: at the first instant that shows the time, or else when the clock jumps over it."""
    counted: Counter[str] = Counter()
    for zone in sorted(zones()) if ALL else rng.sample(sorted(zones()), 2):
        counted["zones"] += 1
        changes = zones()[zone]
        edge = oracle.face_at(zone, rng.choice(changes) - oracle.MINUTE) + timedelta(minutes=rng.randrange(1, 31))
        for hour, minute in ((0, 0), (edge.hour, edge.minute)):
            fires = list(cron(f"{minute} {hour} * * *", timezone=zone).between(START, END))
            days = [datetime(2024, 1, 2, hour, minute) + n * oracle.DAY for n in range((END - START).days - 2)]  # noqa: DTZ001 - wall clocks
            expected = [first_instant(zone, changes, wall) for wall in days]
            assert [fire for fire in fires if expected[0] <= fire <= expected[-1]] == expected, (zone, hour, minute)
            counted["lines"] += 1
            counted["fires compared"] += len(expected)
    report(counted)


def first_instant(zone: str, changes: list[datetime], wall: datetime) -> datetime:
    """When the clock reaches or passes this time. A clock is set by less than a day; between two settings it runs evenly."""
    guess = wall.replace(tzinfo=UTC)
    around = [guess - oracle.DAY, *(change for change in changes if abs(change - guess) < oracle.DAY), guess + oracle.DAY]
    for begin, stop in pairwise(around):
        instant = begin + max(wall - oracle.face_at(zone, begin), timedelta(0))
        if instant < stop:
            return instant
    raise AssertionError("a day has an end")


def compare(rng: Random, text: str, zone: str, minutes: oracle.Walk, start: datetime, end: datetime, special: datetime) -> int:
    """The fires of (start, end], looked at in each way that a schedule is asked. Gives how many there are."""
    where = f"{text!r} in {zone}, {start.isoformat()} to {end.isoformat()}, seed {SEED}"
    schedule = cron(text, timezone=zone)
    expected = oracle.due(oracle.read(text), minutes, start)
    assert list(schedule.between(start, end)) == expected, where
    fires = rng.sample(expected, min(2, len(expected)))
    ask_each_way(rng, schedule, zone, expected, [special, special - TINY, *fires, *(fire - TINY for fire in fires)], start, end, where)
    return len(expected)


def ask_each_way(
    rng: Random,
    schedule: Schedule,
    zone: str,
    expected: list[datetime],
    moments: list[datetime],
    start: datetime,
    end: datetime,
    where: str,
) -> None:
    """`next_after`, `between` with a limit and `latest_at_or_before` tell the same, whatever zone they are asked in."""
    moments = [*moments, start + (end - start) * rng.random(), end]
    for moment in moments:
        asked = moment.astimezone(rng.choice([ZoneInfo(zone), UTC]))
        following = expected[bisect_right(expected, moment) :]
        after = schedule.next_after(asked)
        assert (after == following[0]) if following else (after is None or after > end), (where, moment)
        assert after is None or after > moment, (where, moment)
        limited = list(schedule.between(asked, end, limit=2))
        assert limited == following[:2], (where, moment)
        within = timedelta(0) if moment == start else (moment - start - TINY) * rng.choice([1, 1, rng.random()])
        held = expected[bisect_left(expected, moment - within) : bisect_right(expected, moment)]
        assert schedule.latest_at_or_before(asked, within=within) == (held[-1] if held else None), (where, moment, within)


def periodic(rng: Random, zone: str, change: datetime, counted: Counter[str]) -> None:
    """`every` counts elapsed time from an anchor, and `at` is one instant, whatever is done to clocks."""
    start, end = change - timedelta(hours=30), change + timedelta(hours=30)
    anchor = (change + timedelta(seconds=rng.randrange(-9_000_000, 9_000_000))).astimezone(ZoneInfo(zone))
    period = rng.choice([timedelta(minutes=rng.randrange(20, 3000)), timedelta(seconds=rng.randrange(1000, 90_000)), timedelta(days=1)])
    expected = oracle.every_fire(anchor, period, start, end)
    schedule = every(period, anchor=anchor if rng.random() < 0.5 else anchor.isoformat())
    where = f"{schedule.describe()}, seed {SEED}"
    assert list(schedule.between(start, end)) == expected, where
    ask_each_way(rng, schedule, zone, expected, [*expected[:2], *(fire - TINY for fire in expected[:2])], start, end, where)
    once = change + timedelta(seconds=rng.randrange(-7200, 7200))
    local = once.astimezone(ZoneInfo(zone))
    for when in (local, local.isoformat()):
        ask_each_way(rng, at(when), zone, [once], [once, once - TINY, change], start, end, where)
    counted["fires compared"] += len(expected) + 2


def test_a_line_is_refused_exactly_where_the_oracle_finds_no_date_for_it(rng: Random) -> None:
    counted: Counter[str] = Counter()
    by_chance = (any_line(rng, START.replace(tzinfo=None) + rng.randrange(366) * oracle.DAY) for _ in range(5000 if ALL else 300))
    dates = (f"0 0 {day} {month} *" for day in range(1, 32) for month in range(1, 13))
    for text in (*dates, *by_chance, "0 0 31 2 mon", "0 0 31 2 */2", "0 0 */31 2 mon", "0 0 30,31 feb *"):
        possible = oracle.read(text).possible
        try:
            fire = cron(text).next_after(START)
        except ValueError as error:
            assert not possible, text
            assert "never" in str(error)  # noqa: PT017 - both ways are right, a third is not
        else:
            assert possible, text
            assert fire is not None
            assert oracle.read(text).names(fire.replace(tzinfo=None)), text
        counted["possible" if possible else "impossible"] += 1
    assert counted["impossible"] >= 7
    report(counted)
