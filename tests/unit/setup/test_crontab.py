"""Crontab lines: the job's own times, absolute paths, and a refusal of what cron cannot express."""

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.errors import UsageError
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import JobSpec
from taskpilot.schedules.schedule import at, cron, every
from taskpilot.setup.crontab import COMMAND_MAX, crontab, crontab_lines
from taskpilot.setup.places import Places, exported, host_zone

NOW = datetime(2026, 11, 25, tzinfo=UTC)
BERLIN = "Europe/Berlin"
START = "/home/me/taskpilot/.venv/bin/taskpilot"


def spec(schedule: Schedule | None, **options: Any) -> JobSpec:
    return JobSpec(name="one", function=print, description="", schedule=schedule, **options)


def times(schedule: Schedule, places: Places) -> list[str]:
    lines = crontab_lines(spec(schedule), places, now=NOW)
    assert all(START in line for line in lines)
    return [line.split(START)[0].rstrip() for line in lines]


def refusal(schedule: Schedule, places: Places, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        crontab_lines(spec(schedule, **options), places, now=NOW)
    assert caught.value.one_line.startswith("job one: ")
    return caught.value.one_line


def command(places: Places) -> str:
    (line,) = crontab_lines(spec(cron("0 7 * * *", timezone=BERLIN)), places, now=NOW)
    return line[21:]


def test_a_line_has_the_jobs_times_and_every_path(places: Places) -> None:
    (line,) = crontab_lines(spec(cron("0 7 * * mon-fri", timezone=BERLIN)), places, now=NOW)
    assert line == (
        "0 7 * * 1-5          /home/me/taskpilot/.venv/bin/taskpilot --root /home/me/taskpilot run one --scheduled-for auto --quiet"
    )


def test_where_state_and_jobs_lie_elsewhere_the_line_names_them(places: Places) -> None:
    places = replace(places, state_dir=Path("/var/lib/tp"), names_state_dir=True, jobs_dir=Path("/srv/jobs"), names_jobs_dir=True)
    assert " --root /home/me/taskpilot --home /var/lib/tp --jobs /srv/jobs run one " in command(places)


@pytest.mark.parametrize(
    ("expression", "fields"),
    [("*/15 * * * *", "*/15 * * * *"), ("0 0 1 jan,jul *", "0 0 1 1,7 *"), ("5 4 13 * fri", "5 4 13 * 5"), ("@weekly", "0 0 * * 0")],
)
def test_names_are_written_as_numbers(expression: str, fields: str, places: Places) -> None:
    assert times(cron(expression, timezone=BERLIN), places) == [fields]


@pytest.mark.parametrize(
    ("period", "host", "lines"),
    [
        ("1m", BERLIN, ["* * * * *"]),
        ("15m", BERLIN, ["0,15,30,45 * * * *"]),
        ("1h", "Asia/Tokyo", ["0 * * * *"]),
        ("6h", "Etc/UTC", ["0 0,6,12,18 * * *"]),
        ("24h", "UTC", ["0 0 * * *"]),
        ("90m", "UTC", ["0 0,3,6,9,12,15,18,21 * * *", "30 1,4,7,10,13,16,19,22 * * *"]),
    ],
)
def test_a_period_that_divides_the_day_becomes_its_times(period: str, host: str, lines: list[str], places: Places) -> None:
    assert times(every(period), replace(places, host_zone=host)) == lines


def test_a_phase_in_whole_minutes_can_be_expressed_too(places: Places) -> None:
    assert times(every("15m", anchor="2026-01-01T00:05Z"), places) == ["5,20,35,50 * * * *"]


@pytest.mark.parametrize("schedule", [every("7m"), every("30s"), every("90s"), every("36h"), every("15m", anchor="2026-01-01T00:00:30Z")])
def test_a_period_that_a_line_cannot_say_is_refused_with_what_can(schedule: Schedule, places: Places) -> None:
    said = refusal(schedule, replace(places, host_zone="UTC"))
    assert f"a crontab line cannot express '{schedule.describe()}'" in said
    assert "use `taskpilot export systemd` or `taskpilot serve`" in said


def test_one_instant_is_refused(places: Places) -> None:
    assert "a crontab line has no year" in refusal(at("2026-12-24T08:00+01:00"), places)


def test_another_zone_than_the_hosts_is_refused(places: Places) -> None:
    said = refusal(cron("0 7 * * *", timezone="America/New_York"), places)
    assert "cron follows the host's clock (Europe/Berlin), and it is due in America/New_York" in said
    assert "or the host's zone in the job" in said
    assert "UTC, and cron the host's clock (Europe/Berlin)" in refusal(every("6h"), places)
    assert "an unknown zone" in refusal(cron("0 7 * * *", timezone=BERLIN), replace(places, host_zone=None))


def test_the_same_clock_under_another_name_is_the_same(places: Places) -> None:
    assert times(cron("0 7 * * *"), replace(places, host_zone="Etc/UTC")) == ["0 7 * * *"]
    refusal(cron("0 7 * * *", timezone="Europe/London"), replace(places, host_zone="UTC"))


def test_what_is_due_in_each_hour_needs_the_same_minute_only(places: Places) -> None:
    assert times(cron("*/15 * * * *"), places) == ["*/15 * * * *"]
    refusal(cron("*/15 * * * *"), replace(places, host_zone="Asia/Kolkata"))
    refusal(cron("0 * * * *"), replace(places, host_zone="Australia/Lord_Howe"))


def test_catching_up_on_all_and_jitter_are_refused(places: Places) -> None:
    hourly = cron("0 * * * *", timezone=BERLIN)
    assert "`taskpilot serve`" in refusal(hourly, places, catch_up="all")
    assert "jitter='1m'" in refusal(hourly, places, jitter=timedelta(minutes=1))


@pytest.mark.parametrize("name", ["a b", "100%", "$HOME", "it's", 'say "x"', "a;b", "`id`", "ä", "#no"])
def test_a_path_reaches_the_command_as_it_is(name: str, places: Places) -> None:
    root = Path("/srv") / name
    text = command(replace(places, root=root))
    # cron takes \% for %, the shell the rest.
    words = shlex.split(text.replace("\\%", "%"))
    assert words[1:3] == ["--root", str(root)]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\tb", "\udcff", "\x7f"])
def test_a_path_that_a_line_cannot_hold_is_refused(name: str, places: Places) -> None:
    assert "cannot hold the path" in refusal(cron("0 7 * * *", timezone=BERLIN), replace(places, root=Path("/srv") / name))


def test_a_command_that_cron_would_drop_is_refused(places: Places) -> None:
    fits = COMMAND_MAX - len(command(replace(places, root=Path("/x")))) + 2
    command(replace(places, root=Path("/" + "x" * (fits - 1))))
    said = refusal(cron("0 7 * * *", timezone=BERLIN), replace(places, root=Path("/" + "x" * fits)))
    assert "drops a command of more than 998 characters" in said


def test_what_cron_can_run_has_its_line_and_all_else_is_named(places: Places) -> None:
    good, first, second = spec(cron("0 7 * * *", timezone=BERLIN)), spec(every("7m")), spec(every("30s"))
    text, refused = crontab([first, good, second], places, now=NOW)
    assert text.splitlines()[-2] == "# one: cron 0 7 * * * (Europe/Berlin)"
    assert [str(error).partition("'every ")[2][:3] for error in refused] == ["7m'", "30s"]
    assert crontab([first], places, now=NOW)[0] == ""


def test_without_names_every_job_with_a_schedule_is_exported() -> None:
    some, none = spec(every("1h")), replace(spec(None), name="two")
    assert exported([some, none], []) == [some]
    with pytest.raises(UsageError, match="job two has no schedule"):
        exported([some, none], ["two"])
    with pytest.raises(UsageError, match="no job has a schedule"):
        exported([none], [])


def test_the_hosts_zone_is_the_one_that_its_file_links_to(tmp_path: Path) -> None:
    zones = tmp_path / "zoneinfo" / "Europe"
    zones.mkdir(parents=True)
    (zones / "Berlin").write_bytes(b"")
    link = tmp_path / "localtime"
    assert host_zone(link) == "UTC"
    link.symlink_to(zones / "Berlin")
    assert host_zone(link) == "Europe/Berlin"
    copy = tmp_path / "copy"
    copy.write_bytes(b"")
    assert host_zone(copy) is None
