"""The crontab line that people copy."""

import re
from pathlib import Path

import pytest

from taskpilot.domain.exits import ExitCode


@pytest.fixture(scope="module")
def lines(house: Path) -> list[str]:
    return [line for line in (house / "crontab.example").read_text().splitlines() if line.strip() and not line.startswith("#")]


def test_the_line_claims_the_schedules_own_fire_and_stays_quiet(lines: list[str]) -> None:
    commands = [line for line in lines if "=" not in line.split()[0]]
    assert commands
    for command in commands:
        assert "--scheduled-for auto --quiet" in command
        assert re.search(r" --root /\S+ run \w+", command), "cron starts in the home folder: the root must be absolute"
        assert not re.search(r"(?<!\\)%", command), "cron ends the command at a bare %"


def test_the_exit_codes_that_it_explains_exist(house: Path) -> None:
    comment = "\n".join(line for line in (house / "crontab.example").read_text().splitlines() if line.startswith("#"))
    explained = {int(code) for code in re.findall(r"(?:^#|\s{2,})\s*(\d+)  ?[a-z]", comment, re.MULTILINE)}
    assert len(explained) > 8
    assert explained <= {int(code) for code in ExitCode}
