"""One log of many processes: whole lines, and a new file at a limit without losing one of them."""

import fcntl
import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from taskpilot.telemetry.log_files import Rotation, SharedLogFile
from taskpilot.telemetry.logs import configure_logs, run_logger
from tests.stopwatch import own_seconds

PROCESSES, LINES = 6, 5_000


def rotation(folder: Path, *, limit_bytes: int = 100, kept: int = 3) -> Rotation:
    return Rotation(folder / "locks" / "rotation.lock", limit_bytes, kept)


def files_of(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}*"))


def shout(home: Path, number: int, rotate_bytes: int, lines: int, width: int) -> None:
    configure_logs(home, rotate_bytes=rotate_bytes)
    shouter = run_logger()
    for count in range(lines):
        shouter.info(f"{number}:{count}:{'x' * width}")
    os._exit(0)


def shouted_by_six(home: Path, *, rotate_bytes: int, lines: int, width: int) -> list[tuple[str, str]]:
    """Who said what, in all files together, each line being whole."""
    context = multiprocessing.get_context("spawn")
    arguments = [(home, number, rotate_bytes, lines, width) for number in range(PROCESSES)]
    processes = [context.Process(target=shout, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    messages = [
        json.loads(line)["message"].split(":")
        for file in files_of(home / "logs" / "taskpilot.log")
        for line in file.read_text().splitlines()
    ]
    assert all(len(text) == width for _, _, text in messages)
    return [(number, count) for number, count, _ in messages]


@pytest.mark.slow
def test_30_000_lines_of_six_processes_are_all_there_and_whole_over_rotations(home: Path) -> None:
    seen = shouted_by_six(home, rotate_bytes=2 * 1024 * 1024, lines=LINES, width=100)
    assert len(files_of(home / "logs" / "taskpilot.log")) in {4, 5, 6}
    assert len(seen) == len(set(seen)) == PROCESSES * LINES


@pytest.mark.slow
def test_long_lines_of_six_processes_are_whole(home: Path) -> None:
    seen = shouted_by_six(home, rotate_bytes=100 * 1024 * 1024, lines=300, width=5000)
    assert len(seen) == len(set(seen)) == PROCESSES * 300


def test_older_files_move_on_and_the_oldest_goes(tmp_path: Path) -> None:
    file = SharedLogFile(tmp_path / "x", rotation=rotation(tmp_path))
    for number in range(12):
        assert file.append(f"{number:02}" + "." * 60)
    assert [each.name for each in files_of(tmp_path / "x")] == ["x.1", "x.2", "x.3"]
    assert [each.read_text().split("\n")[0][:2] for each in files_of(tmp_path / "x")] == ["10", "08", "06"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in files_of(tmp_path / "x")} == {0o600}
    file.close()


def test_a_writer_that_still_has_the_old_file_continues_in_the_new_one(tmp_path: Path) -> None:
    one, other = (SharedLogFile(tmp_path / "x", rotation=rotation(tmp_path)) for _ in range(2))
    other.append("first")
    one.append("." * 200)
    other.append("second")
    assert (tmp_path / "x").read_text() == "second\n"
    one.close()
    other.close()


def test_a_line_in_a_file_that_is_deleted_meanwhile_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SharedLogFile(tmp_path / "x", rotation=rotation(tmp_path))
    file.append("before")
    real = os.write

    def slow(descriptor: int, data: bytes) -> int:
        # Between the look at the path and the write, all other processes together rotate the file away.
        (tmp_path / "x").unlink(missing_ok=True)
        monkeypatch.setattr("taskpilot.telemetry.log_files.os.write", real)
        return real(descriptor, data)

    monkeypatch.setattr("taskpilot.telemetry.log_files.os.write", slow)
    assert file.append("kept")
    assert (tmp_path / "x").read_text() == "kept\n"
    file.close()


def test_a_process_that_is_stopped_while_it_rotates_blocks_no_other(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    file = SharedLogFile(tmp_path / "x", rotation=rotation(tmp_path))
    with (tmp_path / "locks" / "rotation.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        began = own_seconds()
        assert all(file.append("." * 60) for _ in range(100))
        assert own_seconds() - began < 1
    assert [each.name for each in files_of(tmp_path / "x")] == ["x"]
    file.append("the lock is free again")
    assert [each.name for each in files_of(tmp_path / "x")] == ["x.1"]
    file.close()


def test_a_file_that_cannot_be_renamed_grows_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.1").mkdir()
    (tmp_path / "x.1" / "in the way").touch()
    file = SharedLogFile(tmp_path / "x", rotation=rotation(tmp_path, kept=1))
    assert all(file.append("." * 60) for _ in range(10))
    assert len((tmp_path / "x").read_text().splitlines()) == 10
    file.close()


def test_a_file_that_another_process_renamed_is_opened_again(tmp_path: Path) -> None:
    file = SharedLogFile(tmp_path / "x")
    file.append("before")
    (tmp_path / "x").rename(tmp_path / "x.1")
    file.append("after")
    assert (tmp_path / "x.1").read_text() == "before\n"
    assert (tmp_path / "x").read_text() == "after\n"
    file.close()


def test_a_disk_that_is_full_in_the_middle_of_a_line_spoils_that_line_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.write, [100, 0]

    def short(descriptor: int, data: bytes) -> int:
        if not room:
            return real(descriptor, data)
        left = room.pop(0)
        if not left:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:left])

    monkeypatch.setattr("taskpilot.telemetry.log_files.os.write", short)
    file = SharedLogFile(tmp_path / "x")
    assert not file.append("a" * 200)
    assert file.append("whole")
    assert (tmp_path / "x").read_text().splitlines() == ["a" * 100, "whole"]
    assert file.lost == 1
    file.close()
