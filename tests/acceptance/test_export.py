"""`taskpilot export` as one types it: text on stdout, files on request, nothing by halves."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.command import TaskPilot

JOBS = '''
from taskpilot import RunContext, at, cron, every, job


@job(schedule=cron("*/5 * * * *"))
def good(ctx: RunContext) -> None:
    """Due each five minutes."""


@job
def unscheduled(ctx: RunContext) -> None:
    """Run by hand."""
'''
ODD = '''
from taskpilot import RunContext, every, job


@job(schedule=every("7m"))
def odd(ctx: RunContext) -> None:
    """Due at other times each day."""
'''


@pytest.fixture
def jobs(taskpilot: TaskPilot) -> Path:
    folder = taskpilot.root / "jobs"
    (folder / "good.py").write_text(JOBS)
    return folder


@pytest.mark.real_creation
def test_a_crontab_is_printed_and_nothing_else_is_written(taskpilot: TaskPilot, jobs: Path) -> None:
    taskpilot.settings('housekeeping = "off"\n')
    said = taskpilot("export", "crontab", environment={"OTEL_ENABLED": None, "TASKPILOT_HOUSEKEEPING": None})
    assert (said.code, said.err) == (0, "")
    (line,) = [line for line in said.out.splitlines() if not line.startswith("#")]
    assert line.startswith("*/5 * * * * ")
    assert line.endswith(f" --root {taskpilot.root} run good --scheduled-for auto --quiet")
    assert not taskpilot.state_dir.exists()


def test_what_only_the_environment_says_is_in_the_line_or_named(taskpilot: TaskPilot, jobs: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "state of it"
    said = taskpilot("export", "crontab", environment={"TASKPILOT_HOME": str(elsewhere), "TASKPILOT_MODEL": "offline"})
    assert f"--home '{elsewhere}' run good" in said.out
    assert "TASKPILOT_MODEL" in said.err
    assert "TASKPILOT_HOME" not in said.err
    assert "offline" not in said.out


def test_a_job_that_cannot_be_exported_is_named(taskpilot: TaskPilot, jobs: Path) -> None:
    (jobs / "odd.py").write_text(ODD)
    lines, units = taskpilot("export", "crontab"), taskpilot("export", "systemd")
    assert (lines.code, units.code, units.out) == (1, 2, "")
    assert " run good " in lines.out
    assert " run odd " not in lines.out
    for said in (lines, units):
        assert "job odd: " in said.err
        assert "taskpilot serve" in said.err
    only = taskpilot("export", "crontab", "odd")
    assert (only.code, only.out) == (1, "")
    for target in ("crontab", "systemd"):
        assert taskpilot("export", target, "good").code == 0


def test_an_unknown_or_unscheduled_job_is_a_usage_error(taskpilot: TaskPilot, jobs: Path) -> None:
    assert taskpilot("export", "crontab", "no_such").code == 2
    said = taskpilot("export", "systemd", "unscheduled")
    assert said.code == 2
    assert "\n  taskpilot run unscheduled\n" in said.err
    assert taskpilot("export", "systemd", "--serve", "good").code == 2
    assert taskpilot("export", "systemd", "--serve", "--name", "../x").code == 2


def test_units_are_written_once_for_all_to_read(taskpilot: TaskPilot, jobs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "units"
    folder.mkdir()
    done = subprocess.run(
        taskpilot.line("export", "systemd", "--output", str(folder)),
        cwd=taskpilot.root,
        env=taskpilot.environment,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: os.umask(0o077) and None,
    )
    assert done.returncode == 0, done.stderr
    assert "systemctl enable --now taskpilot-good.timer" in done.stdout
    written = sorted(folder.iterdir())
    assert [path.name for path in written] == ["taskpilot-good.service", "taskpilot-good.timer"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o644}


def test_a_unit_that_is_there_is_not_overwritten_unless_one_says_so(taskpilot: TaskPilot, jobs: Path, tmp_path: Path) -> None:
    mine = tmp_path / "taskpilot-good.timer"
    mine.write_text("mine")
    said = taskpilot("export", "systemd", "--output", str(tmp_path))
    assert said.code == 2
    assert "taskpilot-good.timer already; nothing was written\n  overwrite with --force" in said.err
    assert mine.read_text() == "mine"
    assert not (tmp_path / "taskpilot-good.service").exists()
    assert taskpilot("export", "systemd", "--output", str(tmp_path), "--force").code == 0
    assert "OnCalendar=*-*-* *:00,05,10" in mine.read_text()


def test_a_link_in_the_place_of_a_unit_is_not_followed(taskpilot: TaskPilot, jobs: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    folder = tmp_path / "units"
    folder.mkdir()
    (folder / "taskpilot-good.timer").symlink_to(precious)
    assert taskpilot("export", "systemd", "--output", str(folder)).code == 2
    assert taskpilot("export", "systemd", "--output", str(folder), "--force").code == 0
    assert precious.read_text() == "keep"


def test_a_folder_that_is_not_there_is_named(taskpilot: TaskPilot, jobs: Path, tmp_path: Path) -> None:
    said = taskpilot("export", "systemd", "--output", str(tmp_path / "none"))
    assert said.code == 2
    assert "cannot be written: No such file or directory" in said.err


def test_the_servers_unit_says_where_it_listens_and_how_long_it_drains(taskpilot: TaskPilot, jobs: Path) -> None:
    said = taskpilot("export", "systemd", "--serve", environment={"PORT": "8123", "TASKPILOT_DRAIN_TIMEOUT": "90s"})
    assert said.code == 0, said.err
    assert said.out.startswith("# taskpilot.service\n[Unit]\n")
    assert " serve --host 127.0.0.1 --port 8123\n" in said.out
    assert "TimeoutStopSec=110\n" in said.out


def test_a_broken_job_file_hides_no_other_and_is_named(taskpilot: TaskPilot, jobs: Path) -> None:
    (jobs / "broken.py").write_text("def broken(:\n")
    said = taskpilot("export", "crontab")
    assert said.code == 0
    assert "run good" in said.out
    assert "broken: " in said.err
