"""Disks that are full or read-only, and telemetry files that cannot be written: loud for the record, quiet for the rest."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.stores import JOBS, fill, refused
from tests.command import TaskPilot

pytestmark = pytest.mark.real_creation


@pytest.fixture
def good(taskpilot: TaskPilot) -> TaskPilot:
    """A root with the jobs above and an impatient command: a lease of 6 s makes it wait a second for a lock."""
    taskpilot.job(JOBS)
    taskpilot.environment |= {"TASKPILOT_MODEL": "offline", "TASKPILOT_LEASE_SECONDS": "6"}
    return taskpilot


def remount_read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


class TestAReadOnlyDisk:
    def test_is_74_for_a_new_store(self, good: TaskPilot, small_disk: Callable[[Path, str], Path]) -> None:
        remount_read_only(small_disk(good.state_dir, "1m"))
        refused(good("run", "good"), 74, "Read-only file system", "TASKPILOT_HOME or --home")

    def test_is_74_for_an_old_one(self, good: TaskPilot, small_disk: Callable[[Path, str], Path]) -> None:
        small_disk(good.state_dir, "4m")
        assert good("run", "good", "--quiet").code == 0
        remount_read_only(good.state_dir)
        for arguments in (["run", "good"], ["runs"]):
            refused(good(*arguments), 74, "read-only for us", "Nothing was overwritten")


class TestAFullDisk:
    def test_is_74_for_a_new_store_and_room_heals_it(self, good: TaskPilot, small_disk: Callable[[Path, str], Path]) -> None:
        filler = fill(small_disk(good.state_dir, "1m"))
        refused(good("run", "good"), 74, "full", "free some space and try again")
        filler.unlink()
        assert good("run", "good", "--quiet").code == 0

    def test_is_74_for_an_old_store_and_what_it_holds_is_kept(self, good: TaskPilot, small_disk: Callable[[Path, str], Path]) -> None:
        small_disk(good.state_dir, "4m")
        assert good("run", "good", "--quiet").code == 0
        filler = fill(good.state_dir)
        refused(good("run", "good"), 74, "full", "free some space and try again")
        filler.unlink()
        assert good("run", "good", "--quiet").code == 0
        assert [run["status"] for run in good.rows("SELECT status FROM runs")] == ["succeeded"] * 2

    @pytest.mark.parametrize("shrug", ["false", "true"])
    def test_in_the_middle_of_a_run_is_74_also_where_the_job_swallows_it(
        self, good: TaskPilot, small_disk: Callable[[Path, str], Path], shrug: str
    ) -> None:
        small_disk(good.state_dir, "4m")
        refused(good("run", "fills_the_disk", "-p", f"shrug={shrug}"), 74, "full", "free some space")
        (good.state_dir / "filler").unlink()
        [step] = good.rows("SELECT name, status FROM steps WHERE status = 'succeeded'")
        assert step["name"] == "before"
        # Nobody could write its end; the next run of the job does.
        run = good.run()
        assert run["status"] == "running"
        good("run", "fills_the_disk", "-p", f"shrug={shrug}")
        (good.state_dir / "filler").unlink()
        [first] = good.rows("SELECT status FROM runs WHERE id = ?", run["id"])
        assert first["status"] == "lost"

    def test_for_logs_alone_changes_nothing(self, good: TaskPilot, small_disk: Callable[[Path, str], Path]) -> None:
        fill(small_disk(good.state_dir / "logs", "64k"))
        said = good("run", "good", "--quiet")
        assert (said.code, said.out, said.err) == (0, "", "")
        assert good.run()["status"] == "succeeded"


def full_device(path: Path) -> None:
    path.symlink_to("/dev/full")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("logs/taskpilot.log", Path.mkdir),
        ("logs/taskpilot.log", os.mkfifo),
        ("logs/taskpilot.log", full_device),
        ("decision_logs.jsonl", full_device),
        ("traces.jsonl", os.mkfifo),
        ("metrics.json", Path.mkdir),
    ],
)
def test_a_telemetry_file_that_cannot_be_written_changes_nothing(good: TaskPilot, name: str, make: Callable[[Path], None]) -> None:
    place = good.state_dir / name
    place.parent.mkdir(mode=0o700, parents=True)
    make(place)
    said = good("run", "good", "--quiet")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert good.run()["status"] == "succeeded"
