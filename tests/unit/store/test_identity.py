"""A file that is put in the place of a store whose log is still there is noticed, before SQLite mixes the two."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from taskpilot.domain.errors import StoreError
from taskpilot.store.copies import backup, restore
from taskpilot.store.database import Store
from taskpilot.store.inspection import Condition, inspect
from taskpilot.store.probe import Presence
from tests import records


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, Path]:
    """A backup with one run, and the state dir of a store with two that was killed: its log is there, and no process has it open."""
    store = Store.open(tmp_path / "living")
    presence = Presence(store)
    presence.check()
    records.add_run(store)
    copy = tmp_path / "copy.db"
    backup(tmp_path / "living", copy)
    records.add_run(store)
    # A copy of all files is what a kill leaves; `-p` keeps no inode, so the one file that holds them is written anew by the next opening.
    shutil.copytree(tmp_path / "living", tmp_path / "state")
    presence.close()
    store.close()
    return tmp_path / "state", copy


def runs(state_dir: Path) -> int:
    store = Store.open(state_dir)
    try:
        with store.read() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() or 0)
    finally:
        store.close()


def copied(state: Path, copy: Path) -> None:
    shutil.copyfile(copy, state / "taskpilot.db")


def moved(state: Path, copy: Path) -> None:
    copy.rename(state / "taskpilot.db")


def test_a_killed_store_is_read_with_its_log(killed: tuple[Path, Path]) -> None:
    assert runs(killed[0]) == 2


@pytest.mark.parametrize("put", [copied, moved])
def test_a_backup_beside_the_log_of_a_killed_store_is_refused(killed: tuple[Path, Path], put: Callable[[Path, Path], None]) -> None:
    state, copy = killed
    put(state, copy)
    before = {path.name: path.read_bytes() for path in state.glob("taskpilot.db*")}
    with pytest.raises(StoreError, match="log of the former file is still there"):
        runs(state)
    assert inspect(state).condition is Condition.CORRUPT
    assert {path.name: path.read_bytes() for path in state.glob("taskpilot.db*")} == before
    # What the message says: without the log, the backup's state is there.
    for ending in ("-wal", "-shm"):
        (state / f"taskpilot.db{ending}").unlink()
    assert runs(state) == 1
    assert runs(state) == 1


@pytest.mark.parametrize("put", [copied, None])
def test_a_restore_gives_the_backups_content_and_keeps_the_former_files(
    killed: tuple[Path, Path], tmp_path: Path, put: Callable[[Path, Path], None] | None
) -> None:
    state, copy = killed
    if put is not None:
        put(state, copy)
    done = restore(state, copy, kept=tmp_path / "kept.db")
    assert (done.kept, done.in_use, done.runs) == (tmp_path / "kept.db", False, 1)
    assert runs(state) == 1
    assert (tmp_path / "kept.db").exists()
    with closing(sqlite3.connect(state / "taskpilot.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert not list(state.glob(".*.part*"))


def test_a_restore_under_a_store_that_is_in_use_is_seen_by_it(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state")
    presence = Presence(store)
    presence.check()
    records.add_run(store)
    backup(tmp_path / "state", tmp_path / "copy.db")
    records.add_run(store)
    done = restore(tmp_path / "state", tmp_path / "copy.db", kept=tmp_path / "kept.db")
    assert done.runs == 1
    presence.check()
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 1
    records.add_run(store)
    presence.check()
    presence.close()
    store.close()
    assert runs(tmp_path / "state") == 2
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept.db").rename(tmp_path / "kept/taskpilot.db")
    assert runs(tmp_path / "kept") == 2


def test_a_damaged_store_is_put_away(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state")
    records.add_run(store)
    backup(tmp_path / "state", tmp_path / "copy.db")
    store.close()
    store.path.write_bytes(b"this was a database once\n" * 500)
    restore(tmp_path / "state", tmp_path / "copy.db", kept=tmp_path / "kept.db")
    assert runs(tmp_path / "state") == 1
    assert (tmp_path / "kept.db").read_bytes().startswith(b"this was a database")


@pytest.mark.parametrize("text", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_is_no_backup_changes_nothing(tmp_path: Path, text: bytes) -> None:
    Store.open(tmp_path / "state").close()
    before = (tmp_path / "state/taskpilot.db").read_bytes()
    (tmp_path / "bad.db").write_bytes(text)
    with pytest.raises(StoreError):
        restore(tmp_path / "state", tmp_path / "bad.db", kept=tmp_path / "kept.db")
    assert (tmp_path / "state/taskpilot.db").read_bytes() == before
    assert not (tmp_path / "kept.db").exists()


@pytest.mark.parametrize("what", ["copied over", "log removed", "log replaced"])
def test_files_that_change_under_an_open_store_stop_it(tmp_path: Path, what: str) -> None:
    store = Store.open(tmp_path / "state")
    records.add_run(store)
    backup(tmp_path / "state", tmp_path / "copy.db")
    presence = Presence(store)
    presence.check()
    records.add_run(store)
    presence.check()
    log = store.path.with_name("taskpilot.db-wal")
    if what == "copied over":
        shutil.copyfile(tmp_path / "copy.db", store.path)
    else:
        log.unlink()
    if what == "log replaced":
        log.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(StoreError, match="Nothing is started from here on"):
            presence.check()
