"""Job files that change under a running scheduler."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from taskpilot.domain.reasons import ReasonCode
from taskpilot.scheduler.scheduler import FolderWatch
from taskpilot.schedules.schedule import every
from tests.keeper import NOON, write_jobs
from tests.unit.scheduler.conftest import Keep

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MINUTELY = 'schedule=every("1m")'


def test_a_changed_file_is_seen_within_seconds(keep: Keep) -> None:
    keeper = keep(old=MINUTELY)
    keeper.ticks(MINUTE, every=SECOND)
    write_jobs(keeper.root, "more", new='schedule=every("30s")')
    keeper.ticks(MINUTE, every=SECOND)
    assert keeper.outcomes("old") == {NOON + MINUTE * n: "started" for n in (1, 2)}
    assert keeper.outcomes("new") == {NOON + MINUTE + 30 * SECOND * n: "started" for n in (1, 2)}
    assert keeper.wake_ups.schedules == {every("1m"), every("30s")}


def test_a_changed_schedule_holds_from_then_on_and_catches_up_nothing(keep: Keep) -> None:
    keeper = keep(job_a=MINUTELY)
    keeper.ticks(MINUTE)
    write_jobs(keeper.root, "timed", job_a='schedule=every("20s")')
    # A whole file of the same second and size would be told apart by its time.
    keeper.ticks(MINUTE, every=5 * SECOND)
    assert keeper.outcomes("job_a") == {NOON + MINUTE: "started"} | {NOON + MINUTE + 20 * SECOND * n: "started" for n in (1, 2, 3)}
    assert keeper.rows("SELECT schedule FROM past_schedules")[0]["schedule"] == "every 1m"


def test_a_broken_file_blocks_its_own_fires_and_no_others(keep: Keep) -> None:
    keeper = keep(stays=MINUTELY)
    write_jobs(keeper.root, "other", breaks=MINUTELY)
    keeper.ticks(MINUTE, every=5 * SECOND)
    (keeper.root / "jobs" / "other.py").write_text("def breaks(:\n")
    keeper.ticks(MINUTE, every=5 * SECOND)
    write_jobs(keeper.root, "other", breaks=MINUTELY)
    keeper.ticks(MINUTE, every=5 * SECOND)
    minutes = [NOON + MINUTE * n for n in (1, 2, 3)]
    assert keeper.outcomes("stays") == dict.fromkeys(minutes, "started")
    assert keeper.outcomes("breaks") == dict(zip(minutes, ["started", "blocked_config", "started"], strict=True))
    broken = keeper.reasons("breaks")[1]
    assert broken.code is ReasonCode.JOB_BROKEN
    assert "other.py:1: SyntaxError" in str(broken.facts["error"])
    assert sum("broken job file" in line for line in keeper.log.lines) == 1


def test_a_removed_job_wakes_nobody_and_its_schedule_ends(keep: Keep) -> None:
    keeper = keep(stays=MINUTELY)
    write_jobs(keeper.root, "other", goes='schedule=cron("* * * * *")')
    keeper.ticks(MINUTE, every=5 * SECOND)
    (keeper.root / "jobs" / "other.py").unlink()
    keeper.ticks(MINUTE, every=5 * SECOND)
    assert list(keeper.outcomes("goes")) == [NOON + MINUTE]
    assert keeper.wake_ups.schedules == {every("1m")}
    assert [row["job"] for row in keeper.rows("SELECT job FROM past_schedules")] == ["goes"]


def test_a_folder_that_vanishes_ends_nothing(keep: Keep) -> None:
    keeper = keep(job_a=MINUTELY)
    folder = keeper.root / "jobs"
    keeper.ticks(MINUTE, every=5 * SECOND)
    folder.rename(keeper.root / "away")
    keeper.ticks(MINUTE, every=5 * SECOND)
    (keeper.root / "away").rename(folder)
    keeper.ticks(MINUTE, every=5 * SECOND)
    minutes = [NOON + MINUTE * n for n in (1, 2, 3)]
    assert keeper.outcomes("job_a") == dict(zip(minutes, ["started", "blocked_config", "started"], strict=True))
    assert "there is no folder" in str(keeper.reasons("job_a")[1].facts["error"])
    assert keeper.rows("SELECT * FROM past_schedules") == []
    assert keeper.wake_ups.schedules == {every("1m")}


def test_a_reload_that_is_asked_for_reads_an_unchanged_folder(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = keep(job_a=MINUTELY)
    keeper.ticks(SECOND)
    read: list[bool] = []
    known = keeper.deployment.reread_jobs
    monkeypatch.setattr(keeper.deployment, "reread_jobs", lambda: (read.append(True), known())[1])
    keeper.ticks(MINUTE, every=SECOND)
    assert read == []
    keeper.scheduler.reload()
    keeper.ticks(2 * SECOND, every=SECOND)
    assert read == [True]


def test_what_it_knows_of_the_files_is_in_the_record(keep: Keep) -> None:
    keeper = keep(job_a=MINUTELY, job_b=MINUTELY)
    (keeper.root / "jobs" / "bad.py").write_text("1 / 0\n")
    keeper.ticks(10 * SECOND, every=SECOND)
    row = keeper.rows("SELECT jobs, broken FROM schedulers")[0]
    assert row["jobs"] == 2
    assert "bad.py:1: ZeroDivisionError" in row["broken"]


def test_a_watch_tells_every_kind_of_change_once(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    watch = FolderWatch(folder)
    assert watch.changed()
    assert not watch.changed()

    def change(what: str) -> None:
        assert watch.changed(), what
        assert not watch.changed(), what

    folder.mkdir()
    change("a folder that was not there")
    (folder / "a.py").write_text("1")
    change("a new file")
    (folder / "a.py").write_text("22")
    change("another size")
    info = (folder / "a.py").stat()
    os.utime(folder / "a.py", ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    change("another time")
    (tmp_path / "elsewhere").write_text("33")
    os.utime(tmp_path / "elsewhere", ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    (tmp_path / "elsewhere").rename(folder / "a.py")
    change("another file of the same time and size under its name")
    (folder / "notes.txt").write_text("no job file")
    (folder / "c.py").symlink_to(folder / "gone")
    assert not watch.changed()
    (folder / "a.py").unlink()
    change("a file that is gone")
    (folder / "c.py").unlink()
    (folder / "notes.txt").unlink()
    folder.rmdir()
    change("a folder that is gone")
