"""The delay of a start: the same everywhere, spread evenly, and never a change of the fire itself."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.schedules.schedule import start_delay

FIRE = datetime(2026, 11, 23, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def moments() -> st.SearchStrategy[datetime]:
    return st.datetimes(datetime(2019, 1, 1), datetime(2031, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


@given(st.text(max_size=20), moments(), st.timedeltas(timedelta(0), timedelta(days=400)), st.text(max_size=20))
def test_a_delay_is_not_negative_and_shorter_than_the_jitter(job: str, fire: datetime, jitter: timedelta, salt: str) -> None:
    delay = start_delay(job, fire, jitter=jitter, salt=salt)
    assert timedelta(0) <= delay < jitter or delay == jitter == timedelta(0)


def test_another_process_finds_the_same_delay() -> None:
    line = (
        "from datetime import UTC, datetime, timedelta; from taskpilot.schedules.schedule import start_delay;"
        "print(start_delay('triage', datetime(2026, 11, 23, 7, tzinfo=UTC), jitter=timedelta(minutes=1), salt='host-1') "
        "// timedelta(microseconds=1))"
    )
    printed = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True).stdout
    assert int(printed) * timedelta(microseconds=1) == start_delay("triage", FIRE, jitter=MINUTE, salt="host-1")


def test_a_delay_is_the_same_in_every_version() -> None:
    """A scheduler of an older version may wait for the same fire: these are promises."""
    assert start_delay("triage", FIRE, jitter=MINUTE, salt="host-1") == timedelta(microseconds=59_657_562)
    assert start_delay("triage", FIRE, jitter=60 * MINUTE, salt="host-1") == timedelta(microseconds=3_579_453_744)


def test_the_zone_in_which_a_fire_is_written_changes_nothing() -> None:
    berlin = FIRE.astimezone(ZoneInfo("Europe/Berlin"))
    assert start_delay("triage", berlin, jitter=MINUTE, salt="a") == start_delay("triage", FIRE, jitter=MINUTE, salt="a")


def test_job_fire_and_deployment_each_give_another_delay() -> None:
    delays = {
        start_delay(job, fire, jitter=MINUTE, salt=salt)
        for job, fire, salt in [
            ("a", FIRE, "x"),
            ("b", FIRE, "x"),
            ("a", FIRE + MINUTE, "x"),
            ("a", FIRE, "y"),
            ("", FIRE, "ax"),
            ("ax", FIRE, ""),
        ]
    }
    assert len(delays) == 6


def test_a_longer_jitter_stretches_the_same_delay() -> None:
    short, long = (start_delay("a", FIRE, jitter=jitter, salt="x") for jitter in (MINUTE, 60 * MINUTE))
    assert abs(long - 60 * short) <= timedelta(microseconds=60)


@pytest.mark.parametrize("by", ["fires", "jobs", "deployments"])
def test_delays_are_spread_evenly(by: str) -> None:
    """10,000 in 100 boxes; by chance, chi square exceeds 180 once in a million tries. These numbers are no chance: they stay."""
    boxes: Counter[int] = Counter()
    for n in range(10_000):
        job, fire, salt = "triage", FIRE, "x"
        if by == "fires":
            fire += n * MINUTE
        elif by == "jobs":
            job = f"job_{n}"
        else:
            salt = f"host-{n}"
        boxes[start_delay(job, fire, jitter=100 * MINUTE, salt=salt) // MINUTE] += 1
    assert set(boxes) <= set(range(100))
    assert sum((boxes[n] - 100) ** 2 / 100 for n in range(100)) < 180


def test_no_jitter_is_no_delay() -> None:
    assert start_delay("a", FIRE, jitter=timedelta(0), salt="x") == timedelta(0)


def test_a_negative_jitter_and_a_naive_fire_are_refused() -> None:
    with pytest.raises(ValueError, match="before its fire"):
        start_delay("a", FIRE, jitter=-MINUTE, salt="x")
    with pytest.raises(ValueError, match="zone"):
        start_delay("a", FIRE.replace(tzinfo=None), jitter=MINUTE, salt="x")
