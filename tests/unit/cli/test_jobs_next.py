"""`jobs next` and what `jobs validate` says of clocks: when jobs are due, and the nights on which that is not as on others."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

JOBS = '''
from taskpilot import cron, every, job


@job(schedule=cron("30 2 * * *", timezone="Europe/Berlin"))
def nightly(ctx) -> None:
    """Each night."""


@job(schedule=cron("* * * * *", timezone="Europe/Berlin"))
def minutely(ctx) -> None:
    """Each minute."""


@job(schedule=every("1d"))
def daily(ctx) -> None:
    """By elapsed time."""


@job
def by_hand(ctx) -> None:
    """When asked."""
'''
GAP = "nightly: on Sun 2026-03-29 the clock in Europe/Berlin skips 02:30; the job runs at 03:00 CEST, once"
FOLD = "nightly: on Sun 2026-10-25 the clock in Europe/Berlin repeats 02:30; the job runs once, at the first 02:30 (CEST)"


@pytest.fixture(autouse=True)
def _in_march() -> Iterator[None]:
    with freeze_time("2026-03-27T20:00:00Z"):
        yield


@pytest.fixture
def nights(root: Path) -> None:
    (root / "jobs" / "nights.py").write_text(JOBS)


def test_fires_are_shown_in_their_zone_and_in_utc(cli: Callable[..., Any]) -> None:
    said = cli("jobs", "next", "triage", "-n", "2")
    assert said.out.splitlines() == [
        "JOB     NEXT RUN                      ZONE           IN UTC",
        "triage  Mon 2026-03-30 07:00:00+0200  Europe/Berlin  2026-03-30 05:00:00Z",
        "triage  Tue 2026-03-31 07:00:00+0200  Europe/Berlin  2026-03-31 05:00:00Z",
    ]
    assert said.err == ""


def test_fires_are_given_as_instants_and_zones(cli: Callable[..., Any]) -> None:
    assert cli("jobs", "next", "triage", "-n", "2", "--json").json == {
        "fires": [
            {"job": "triage", "scheduled_for": "2026-03-30T05:00:00.000000Z", "zone": "Europe/Berlin"},
            {"job": "triage", "scheduled_for": "2026-03-31T05:00:00.000000Z", "zone": "Europe/Berlin"},
        ],
        "warnings": [],
    }
    assert cli("jobs", "next", "nothing").code == 2


@pytest.mark.usefixtures("nights")
def test_the_night_that_skips_a_fire_and_the_one_that_repeats_it_are_told(cli: Callable[..., Any]) -> None:
    said = cli("jobs", "next", "nightly", "-n", "3")
    assert said.code == 0
    assert "Sun 2026-03-29 03:00:00+0200" in said.out
    # stdout stays a table: what is read by awk has no sentence in it. A year ahead there is the next gap too.
    assert said.err.splitlines()[:2] == [f"warning: {GAP}", f"warning: {FOLD}"]
    assert len(said.err.splitlines()) == 3


@pytest.mark.usefixtures("nights")
def test_warnings_are_json_too(cli: Callable[..., Any]) -> None:
    for verb in (("next",), ("validate",), ("validate", "nightly")):
        said = cli("jobs", *verb, "--json")
        assert said.code == 0
        warnings = said.json["warnings"]
        assert [warning["kind"] for warning in warnings] == ["gap", "fold", "gap"]
        assert warnings[0] == {
            "job": "nightly",
            "zone": "Europe/Berlin",
            "kind": "gap",
            "date": "2026-03-29",
            "clock_set_at": "2026-03-29T01:00:00.000000Z",
            "message": GAP.removeprefix("nightly: "),
        }


@pytest.mark.usefixtures("nights")
def test_validate_tells_them_and_stays_0(cli: Callable[..., Any]) -> None:
    said = cli("jobs", "validate")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[:5] == ["ok      by_hand", "ok      daily", "ok      minutely", "ok      nightly", "ok      triage"]
    assert lines[6:8] == [f"warning {GAP}", f"warning {FOLD}"]
    assert cli("jobs", "validate", "minutely").out.splitlines() == ["ok      minutely", "ok      policy"]


@pytest.mark.usefixtures("nights")
def test_a_broken_file_is_78_with_and_without_warnings(cli: Callable[..., Any], root: Path) -> None:
    (root / "jobs" / "bad.py").write_text("def x(:\n")
    said = cli("jobs", "validate")
    assert said.code == 78
    assert f"warning {GAP}" in said.out


def test_the_table_fits_a_terminal_of_80_columns(cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stdout", screen)
    assert cli("jobs", "next", "triage", "-n", "1").code == 0
    heading, row = screen.getvalue().splitlines()
    assert heading.split() == ["JOB", "NEXT", "RUN", "ZONE", "HERE"]
    assert row.rstrip() == "triage  Mon 2026-03-30 07:00:00+0200  Europe/Berlin  2026-03-30 05:00:00Z"
    assert len(row) <= 80
