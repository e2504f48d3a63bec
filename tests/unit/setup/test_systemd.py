"""Timers and services of jobs, and a refusal of what a timer cannot express."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.errors import UsageError
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import JobSpec
from taskpilot.schedules.schedule import at, cron, every
from taskpilot.setup.places import Places
from taskpilot.setup.systemd import exec_line, job_units, serve_unit

NOW = datetime(2026, 11, 25, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def spec(schedule: Schedule, **options: Any) -> JobSpec:
    return JobSpec(name="one", function=print, description="", schedule=schedule, **options)


def units(places: Places, schedule: Schedule, **options: Any) -> dict[str, list[str]]:
    found = job_units([spec(schedule, **options)], places, name="taskpilot", now=NOW)
    return {name: text.splitlines() for name, text in found.items()}


def timer(places: Places, schedule: Schedule, **options: Any) -> list[str]:
    return units(places, schedule, **options)["taskpilot-one.timer"]


def calendars(places: Places, schedule: Schedule) -> list[str]:
    return [line.removeprefix("OnCalendar=") for line in timer(places, schedule) if line.startswith("OnCalendar=")]


def refusal(places: Places, schedule: Schedule, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        timer(places, schedule, **options)
    assert caught.value.one_line.startswith("job one: ")
    assert "use `taskpilot serve`" in caught.value.one_line
    return caught.value.one_line


def test_a_job_is_a_timer_and_a_service_that_claims_its_fire(places: Places) -> None:
    found = units(places, cron("0 7 * * mon-fri", timezone=BERLIN))
    assert list(found) == ["taskpilot-one.timer", "taskpilot-one.service"]
    run = "ExecStart=/home/me/taskpilot/.venv/bin/taskpilot --root /home/me/taskpilot run one --scheduled-for auto --quiet"
    wanted = {
        "Type=oneshot",
        "User=me",
        run,
        "SuccessExitStatus=10 11 13 143",
        "KillMode=mixed",
    }
    assert wanted <= set(found["taskpilot-one.service"])
    assert {"Persistent=yes", "AccuracySec=100ms", "WantedBy=timers.target"} <= set(found["taskpilot-one.timer"])


def test_a_server_is_a_service_that_is_watched_and_drained(places: Places) -> None:
    (text,) = serve_unit(replace(places, drain_timeout=45.5), name="taskpilot", host="127.0.0.1", port=8001).values()
    run = "ExecStart=/home/me/taskpilot/.venv/bin/taskpilot --root /home/me/taskpilot serve --host 127.0.0.1 --port 8001"
    wanted = {
        "Type=notify",
        "WatchdogSec=60",
        "TimeoutStopSec=66",
        "Restart=on-failure",
        "KillMode=process",
        "WantedBy=multi-user.target",
        run,
    }
    assert wanted <= set(text.splitlines())


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (cron("0 7 * * mon-fri", timezone=BERLIN), ["Mon,Tue,Wed,Thu,Fri *-*-* 07:00:00 Europe/Berlin"]),
        (cron("*/20 * * * *"), ["*-*-* *:00,20,40:00 UTC"]),
        (cron("30 4 1,15 feb 0"), ["*-02-01,15 04:30:00 UTC", "Sun *-02-* 04:30:00 UTC"]),
        (cron("0 0 */10 * 7"), ["Sun *-*-01,11,21,31 00:00:00 UTC"]),
        (cron("0 0 13 * *"), ["*-*-13 00:00:00 UTC"]),
        (every("15s"), ["*-*-* *:*:00,15,30,45 UTC"]),
        (every("90m"), ["*-*-* 00,03,06,09,12,15,18,21:00:00 UTC", "*-*-* 01,04,07,10,13,16,19,22:30:00 UTC"]),
        (every("12h", anchor="2026-01-01T03:04:05Z"), ["*-*-* 03,15:04:05 UTC"]),
        (at("2026-12-24T08:00+01:00"), ["2026-12-24 07:00:00 UTC"]),
    ],
)
def test_a_schedule_is_written_in_its_own_zone(schedule: Schedule, expected: list[str], places: Places) -> None:
    assert calendars(places, schedule) == expected


@pytest.mark.parametrize("schedule", [every("7m"), every("7s"), every("36h"), every("1m", anchor="2026-01-01T00:00:00.5Z")])
def test_a_period_that_does_not_divide_a_day_is_refused(schedule: Schedule, places: Places) -> None:
    assert f"OnCalendar= cannot express '{schedule.describe()}'" in refusal(places, schedule)


def test_catching_up_on_all_and_meeting_an_active_run_are_refused(places: Places) -> None:
    assert 'catch_up="all"' in refusal(places, every("1h"), catch_up="all")
    for overlap in ("buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"):
        assert f"overlap='{overlap}'" in refusal(places, every("1h"), overlap=overlap)


def test_a_job_that_skips_catching_up_is_not_persistent(places: Places) -> None:
    assert "Persistent=no" in timer(places, every("1h"), catch_up="skip")


def test_jitter_is_a_delay_where_the_fire_can_still_be_claimed_after_it(places: Places) -> None:
    assert "RandomizedDelaySec=90s" in timer(places, every("1h"), jitter=timedelta(seconds=90))
    assert "(1m after its time)" in refusal(places, every("1m"), jitter=timedelta(minutes=1))
    refusal(places, every("1h"), jitter=timedelta(minutes=30))


def test_a_fire_that_systemd_passes_over_when_clocks_are_set_is_named(places: Places) -> None:
    said = "\n".join(timer(places, cron("30 2 * * *", timezone=BERLIN)))
    assert "# systemd skips the fire of 2027-03-28T01:00:00Z, when the clocks in Europe/Berlin change" in said
    assert "--scheduled-for 2027-03-28T01:00:00Z" in said
    assert "the fire of 2027-10-31T01:00:00Z" in "\n".join(timer(places, cron("0 * * * *", timezone=BERLIN)))
    for schedule in (cron("0 7 * * *", timezone=BERLIN), cron("30 2 * * *"), every("1h")):
        assert "skips the fire" not in "\n".join(timer(places, schedule))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("/srv/plain-1.0_x@y", "/srv/plain-1.0_x@y"),
        ("/srv/a b", '"/srv/a b"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ("it's", '"it\'s"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("a\nExecStart=/bin/evil", '"a\\x0aExecStart=/bin/evil"'),
        ("", '""'),
    ],
)
def test_a_word_of_a_command_is_quoted(word: str, expected: str) -> None:
    assert exec_line(["/bin/x", word]) == f"/bin/x {expected}"


def test_a_dollar_in_the_programs_path_is_not_escaped() -> None:
    assert exec_line(["/srv/$x/taskpilot", "$x"]) == '"/srv/$x/taskpilot" "$$x"'


def test_a_program_that_systemd_refuses_to_name_is_started_by_the_shell() -> None:
    assert exec_line(["/srv/it's $x/taskpilot", "run"]) == '/bin/sh -c "exec \\"$$0\\" \\"$$@\\"" "/srv/it\'s $$x/taskpilot" run'


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        exec_line(["/bin/x", "\udcff"])


def test_a_root_that_hardening_would_close_is_left_open(places: Places) -> None:
    assert "ReadWritePaths" not in str(units(places, every("1h")))
    found = units(replace(places, root=Path("/etc/my jobs"), state_dir=Path("/var/x")), every("1h"))
    assert 'ReadWritePaths=-"/etc/my jobs"' in found["taskpilot-one.service"]


def test_all_that_is_refused_is_named_at_once(places: Places) -> None:
    jobs = [spec(every("7m")), replace(spec(every("1h"), catch_up="all"), name="two")]
    with pytest.raises(UsageError, match=r"job one: .*; job two: "):
        job_units(jobs, places, name="taskpilot", now=NOW)
