"""The crontab line that people copy."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taskpilot.domain.exits import ExitCode
from taskpilot.setup.crontab import crontab, crontab_lines
from taskpilot.setup.places import Places
from tests.loading import read_folder


@pytest.fixture(scope="module")
def lines(repository: Path) -> list[str]:
    return [line for line in (repository / "crontab.example").read_text().splitlines() if line.strip() and not line.startswith("#")]


def test_the_line_claims_the_schedules_own_fire_and_stays_quiet(lines: list[str]) -> None:
    commands = [line for line in lines if "=" not in line.split()[0]]
    assert commands
    for command in commands:
        assert "--scheduled-for auto --quiet" in command
        assert re.search(r" --root /\S+ run \w+", command), "cron starts in the home folder: the root must be absolute"
        assert not re.search(r"(?<!\\)%", command), "cron ends the command at a bare %"


def test_it_is_what_export_writes_for_the_shipped_job(repository: Path, lines: list[str]) -> None:
    root = Path("/home/me/taskpilot")
    places = Places(
        program=(str(root / ".venv/bin/taskpilot"),),
        root=root,
        state_dir=root / ".taskpilot",
        names_state_dir=False,
        jobs_dir=root / "jobs",
        names_jobs_dir=False,
        user="me",
        host_zone="Europe/Berlin",
        drain_timeout=30,
        environment=(),
    )
    triage = read_folder(repository / "jobs").get("triage")
    now = datetime(2026, 11, 25, tzinfo=UTC)
    assert crontab_lines(triage, places, now=now) == lines[1:]
    assert crontab([triage], places, now=now)[0].splitlines()[-2:] == (repository / "crontab.example").read_text().splitlines()[-2:]


def test_the_exit_codes_that_it_explains_exist(repository: Path) -> None:
    comment = "\n".join(line for line in (repository / "crontab.example").read_text().splitlines() if line.startswith("#"))
    explained = {int(code) for code in re.findall(r"(?:^#|\s{2,})\s*(\d+)  ?[a-z]", comment, re.MULTILINE)}
    assert len(explained) > 8
    assert explained <= {int(code) for code in ExitCode}
