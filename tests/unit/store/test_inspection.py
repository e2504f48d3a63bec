"""Looking at a store leaves no trace of the look, and sees what is recorded, in the log too."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskpilot.store import inspection
from taskpilot.store.connections import FILE
from taskpilot.store.database import Store
from taskpilot.store.inspection import Condition, Pending, inspect

WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("UPDATE store_info SET deployment = 'written'")
connection.execute("INSERT INTO job_state (job, version, push_error) VALUES ('triage', 3, 'no answer')")
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
if sys.argv[2] == "writing":
    connection.execute("BEGIN IMMEDIATE")
print("ready", flush=True)
sys.stdin.read()
"""


def traces_of(folder: Path) -> dict[str, tuple[Any, ...]]:
    files = [folder, *folder.iterdir()]
    states = {path.name: path.stat() for path in files}
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}
    return {name: (state.st_mode, state.st_mtime_ns, state.st_size, digests.get(name)) for name, state in states.items()}


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    before = traces_of(folder)
    yield
    assert traces_of(folder) == before


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    Store.open(folder, "made").close()
    return folder


@contextmanager
def another_process(state_dir: Path, what: str) -> Iterator[subprocess.Popen[bytes]]:
    line = [sys.executable, "-c", WRITER, str(state_dir / FILE), what]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.communicate()


def test_a_store_that_nobody_has_open_is_read(state_dir: Path) -> None:
    with untouched(state_dir):
        seen = inspect(state_dir)
    assert (seen.condition, seen.deployment, seen.damage, seen.wal, seen.runs) == (Condition.READ, "made", (), True, 0)
    assert not (state_dir / f"{FILE}-shm").exists()


@pytest.mark.parametrize("what", ["open", "writing", "killed"])
def test_what_stands_in_the_log_alone_is_seen(state_dir: Path, what: str) -> None:
    with another_process(state_dir, what) as process:
        assert (state_dir / f"{FILE}-wal").stat().st_size > 0
        with untouched(state_dir):
            seen = inspect(state_dir)
        assert (seen.condition, seen.deployment, seen.pending) == (Condition.READ, "written", (Pending("triage", "no answer"),))
        assert seen.locked_by == (process.pid if what == "writing" else None)


def test_a_writer_goes_on_while_it_is_looked_at(state_dir: Path) -> None:
    with closing(sqlite3.connect(state_dir / FILE, isolation_level=None)) as writer:
        for number in range(20):
            writer.execute("UPDATE store_info SET created_at = ?", (number,))
            assert inspect(state_dir).condition is Condition.READ


def test_what_a_writer_changed_during_a_look_without_a_log_is_looked_at_again(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, writers = inspection._facts, ExitStack()

    def interrupted(*arguments: Any) -> Any:
        found = facts(*arguments)
        if found.deployment == "made":
            writers.enter_context(another_process(state_dir, "open"))
        return found

    monkeypatch.setattr(inspection, "_facts", interrupted)
    with writers:
        assert inspect(state_dir).deployment == "written"


def test_nothing_is_made_where_there_is_nothing(tmp_path: Path) -> None:
    assert inspect(tmp_path / "nowhere").condition is Condition.NONE
    assert not (tmp_path / "nowhere").exists()


def test_a_log_whose_index_is_gone_is_not_read_past(state_dir: Path) -> None:
    with another_process(state_dir, "killed"):
        pass
    (state_dir / f"{FILE}-shm").unlink()
    with untouched(state_dir):
        assert inspect(state_dir).condition is Condition.LOG_WITHOUT_INDEX


def test_a_log_of_another_owner_is_not_given_away(state_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    with another_process(state_dir, "killed"):
        pass
    os.chown(state_dir / f"{FILE}-wal", 65534, 65534)
    with untouched(state_dir):
        seen = inspect(state_dir)
    assert (seen.condition, (state_dir / f"{FILE}-wal").stat().st_uid) == (Condition.UNREADABLE, 65534)


def test_a_check_that_takes_too_long_is_cut_and_that_is_said(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "CHECK_SECONDS", -1.0)
    monkeypatch.setattr(inspection, "_STEPS_A_LOOK", 1)
    with untouched(state_dir):
        seen = inspect(state_dir)
    assert (seen.condition, seen.check_cut, seen.damage) == (Condition.READ, True, ())


def test_a_folder_in_its_place_is_said(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    (tmp_path / FILE / "x").write_text("")
    seen = inspect(tmp_path)
    assert (seen.condition, seen.detail) == (Condition.UNREADABLE, "it is not a file")
