"""The units as systemd itself reads them, and the times at which it would start them."""

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import JobSpec
from taskpilot.schedules.schedule import Cron, at, cron, every
from taskpilot.setup.places import Places
from taskpilot.setup.systemd import job_units, serve_unit
from tests.servers.debian import require

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SUMMER = datetime(2026, 3, 29, tzinfo=UTC)
WINTER = datetime(2026, 10, 25, tzinfo=UTC)
BERLIN = "Europe/Berlin"
HOSTILE = ("plain", "two words", "100% sure", "$HOME", "it's", 'say "x"', "back\\slash", "a;b #c", "new\nline", "täglich")


@pytest.fixture(scope="module")
def analyze() -> str:
    return require("systemd-analyze", "systemd")


def places_in(root: Path) -> Places:
    """An installation whose program exists: systemd looks for it."""
    program = root / "bin" / "taskpilot"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return Places(
        program=(str(program),),
        root=root,
        state_dir=root / "state",
        names_state_dir=True,
        jobs_dir=root / "jobs",
        names_jobs_dir=True,
        user="root",
        host_zone="UTC",
        drain_timeout=30,
        environment=(),
    )


def verified(analyze: str, folder: Path, units: dict[str, str], *, debug: bool = False) -> str:
    """Writes the units and lets systemd read them; gives what it said."""
    folder.mkdir(exist_ok=True)
    for name, text in units.items():
        (folder / name).write_text(text, encoding="utf-8")
    command = [analyze, "verify", "--man=no", *(str(folder / name) for name in units)]
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"} | ({"SYSTEMD_LOG_LEVEL": "debug"} if debug else {})
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", HOSTILE)
def test_systemd_takes_every_unit_and_finds_the_program_in_any_folder(analyze: str, tmp_path: Path, name: str) -> None:
    places = places_in(tmp_path / name)
    job = JobSpec(
        name="one", function=print, description="", schedule=cron("0 7 * * mon-fri", timezone=BERLIN), jitter=timedelta(minutes=1)
    )
    units = job_units([job], places, name="taskpilot", now=NOW)
    said = verified(analyze, tmp_path / "units", units)
    assert str(tmp_path) not in said, said
    said = verified(analyze, tmp_path / "units", serve_unit(places, name="taskpilot", host="127.0.0.1", port=8000))
    assert str(tmp_path) not in said, said


@pytest.mark.parametrize("name", HOSTILE)
def test_each_word_of_the_command_reaches_systemd_as_it_is(analyze: str, tmp_path: Path, name: str) -> None:
    """Its dump is the parsed command, before `$$` becomes `$`."""
    places = places_in(tmp_path / name)
    said = verified(analyze, tmp_path / "units", serve_unit(places, name="taskpilot", host="127.0.0.1", port=8000), debug=True)
    line = re.search(r"Command Line: (.*)", said)
    assert line is not None
    words = [unquoted(word) for word in re.findall(r'"(?:\\.|[^"\\])*"|\S+', line[1])]
    expected = [word.replace("$", "$$") for word in places.command("serve", "--host", "127.0.0.1", "--port", "8000")[1:]]
    assert words[-len(expected) :] == expected


def unquoted(word: str) -> str:
    if not word.startswith('"'):
        return word
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found[1], found[1]), word[1:-1])


def elapses(analyze: str, schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    job = JobSpec(name="one", function=print, description="", schedule=schedule)
    timer = job_units([job], PLACES, name="taskpilot", now=after)["taskpilot-one.timer"]
    found: set[datetime] = set()
    for calendar in re.findall(r"^OnCalendar=(.*)$", timer, re.MULTILINE):
        command = [analyze, "calendar", f"--iterations={count}", f"--base-time={after:%Y-%m-%d %H:%M:%S} UTC", calendar]
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60, env={"PATH": "/usr/bin:/bin", "TZ": "UTC"}
        ).stdout
        for instant in re.findall(r"(?:elapse|#\d+): \w{3} (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", said):
            found.add(datetime.fromisoformat(instant).replace(tzinfo=UTC))
    return sorted(found)[:count]


PLACES = Places(("/bin/true",), Path("/srv"), Path("/srv/s"), False, Path("/srv/j"), False, "root", "UTC", 30, ())


@pytest.mark.parametrize(
    "schedule",
    [
        cron("0 7 * * mon-fri", timezone=BERLIN),
        cron("*/15 * * * *"),
        cron("3-59/7 8-18/2 * * *", timezone="America/New_York"),
        cron("0 12 13 * fri", timezone=BERLIN),
        cron("0 0 */10 * 7"),
        cron("30 4 1,15 2-6 *", timezone="Asia/Kolkata"),
        cron("0 0 29 2 *"),
        cron("15 3 * * sun,wed", timezone="Pacific/Auckland"),
        every("15s"),
        every("90m"),
        every("12h", anchor="2026-01-01T03:04:05Z"),
    ],
    ids=Schedule.describe,
)
@pytest.mark.parametrize("after", [NOW, SUMMER, WINTER], ids=["november", "spring", "autumn"])
def test_a_timer_elapses_at_the_fires_of_the_job(analyze: str, schedule: Schedule, after: datetime) -> None:
    fires = list(schedule.between(after, after + timedelta(days=366 * 9), limit=20))
    if isinstance(schedule, Cron) and schedule.expression.startswith("0 0 29"):
        fires = fires[:2]
    assert elapses(analyze, schedule, after, len(fires)) == fires


def test_one_instant_elapses_once(analyze: str) -> None:
    assert elapses(analyze, at("2026-12-24T08:00+01:00"), NOW, 1) == [datetime(2026, 12, 24, 7, tzinfo=UTC)]


@pytest.mark.parametrize(("expression", "after"), [("30 2 * * *", SUMMER - timedelta(days=1)), ("0 * * * *", WINTER - timedelta(hours=3))])
def test_what_the_comment_says_of_changing_clocks_is_what_systemd_does(analyze: str, expression: str, after: datetime) -> None:
    schedule = cron(expression, timezone=BERLIN)
    job = JobSpec(name="one", function=print, description="", schedule=schedule)
    timer = job_units([job], PLACES, name="taskpilot", now=after)["taskpilot-one.timer"]
    named = re.search(r"skips the fire of (\S+),", timer)
    assert named is not None
    fires = list(schedule.between(after, after + timedelta(days=366), limit=12))
    assert set(fires) - set(elapses(analyze, schedule, after, 12)) == {datetime.fromisoformat(named[1])}
