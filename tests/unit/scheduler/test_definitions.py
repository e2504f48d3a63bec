"""Job files that change under a running scheduler."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import pytest

from taskpilot.domain.reasons import ReasonCode
from taskpilot.process import isolated
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
    # A whole file of the same second and size would differ by its time.
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


def test_a_removed_job_causes_no_wake_up_and_its_schedule_ends(keep: Keep) -> None:
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


def test_a_reload_that_is_asked_for_loads_broken_files_again(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = keep(job_a=MINUTELY)
    (keeper.root / "jobs" / "bad.py").write_text("1 / 0\n")
    keeper.ticks(5 * SECOND)
    loaded: list[str] = []
    known = isolated.call_isolated

    def call(function: str, arguments: list[dict[str, str]], *rest: object, **named: object) -> object:
        loaded.extend(Path(one["path"]).name for one in arguments)
        return known(function, arguments, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(isolated, "call_isolated", call)
    keeper.ticks(MINUTE, every=SECOND)
    assert loaded == []
    keeper.scheduler.reload()
    keeper.ticks(2 * SECOND, every=SECOND)
    assert loaded == ["bad.py"]


def test_a_job_whose_file_is_being_loaded_keeps_its_schedule_and_its_fires(keep: Keep) -> None:
    keeper = keep(job_a=MINUTELY)
    keeper.ticks(5 * SECOND)
    whole = keeper.deployment.catalog
    keeper.serve()
    # As after a start of the server without a cache.
    keeper.scheduler._job_files.newest = replace(whole, jobs=MappingProxyType({}), loading=frozenset({"job_a"}))
    keeper.scheduler._job_files.request = lambda **_: None  # type: ignore[method-assign]
    keeper.start()
    keeper.ticks(MINUTE, every=5 * SECOND)
    assert keeper.outcomes("job_a") == {}
    assert keeper.rows("SELECT * FROM past_schedules") == []
    keeper.scheduler._job_files.newest = whole
    keeper.tick()
    assert keeper.outcomes("job_a") == {NOON + MINUTE: "started"}


def test_what_it_knows_of_the_files_is_in_the_record(keep: Keep) -> None:
    keeper = keep(job_a=MINUTELY, job_b=MINUTELY)
    (keeper.root / "jobs" / "bad.py").write_text("1 / 0\n")
    keeper.ticks(10 * SECOND, every=SECOND)
    row = keeper.rows("SELECT jobs, broken FROM schedulers")[0]
    assert row["jobs"] == 2
    assert "bad.py:1: ZeroDivisionError" in row["broken"]
