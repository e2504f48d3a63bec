"""A copy of the store: whole, private, of a sound store only, and never over another file."""

import os
import signal
import stat
from pathlib import Path

import pytest

from taskpilot.domain.errors import StoreError
from taskpilot.store import copies, tables
from taskpilot.store.connections import FILE
from taskpilot.store.copies import backup
from taskpilot.store.database import Store
from taskpilot.store.totals import Increment, add


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def damage(path: Path, data: bytes, *, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_backup_is_a_store_of_the_same_content(store: Store, state_dir: Path, tmp_path: Path) -> None:
    with store.write() as connection:
        add(connection, "triage", [Increment("runs", "{}", 7)])
    copied = tmp_path / "copy"
    copied.mkdir()
    with store.write() as connection:
        # Not committed, so not in the copy; and the copy does not wait for it.
        add(connection, "triage", [Increment("runs", "{}", 100)])
        backup(state_dir, copied / FILE)
    assert mode(copied / FILE) == 0o600
    again = Store.open(copied)
    try:
        with again.read() as connection:
            assert [row.value for row in connection.execute(tables.totals.select())] == [7]
    finally:
        again.close()
    assert again.store_id == store.store_id


def test_a_backup_goes_over_no_file_and_through_no_link(store: Store, state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for target in ("precious", "link"):
        with pytest.raises(StoreError, match="File exists"):
            backup(state_dir, tmp_path / target)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()


def test_a_backup_of_a_corrupt_store_is_an_error_of_ours_and_leaves_no_file(store: Store, state_dir: Path, tmp_path: Path) -> None:
    store.close()
    (state_dir / FILE).write_text("this was a database once\n" * 500)
    with pytest.raises(StoreError, match="not a database"):
        backup(state_dir, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_there_is_nothing_to_back_up_without_a_store(state_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        backup(state_dir, tmp_path / "copy.db")


def test_a_backup_of_a_damaged_store_is_no_backup(store: Store, state_dir: Path, tmp_path: Path) -> None:
    store.close()
    path = state_dir / FILE
    damage(path, b"\xff" * (path.stat().st_size - 4096), at=4096)
    with pytest.raises(StoreError, match="damaged"):
        backup(state_dir, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_backup_that_is_killed_leaves_no_file_under_its_name(
    store: Store, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when all is copied, and has no name yet."""
    monkeypatch.setattr(copies, "_check_sound", lambda _copy: os.kill(os.getpid(), signal.SIGKILL))
    store.close()
    if (pid := os.fork()) == 0:
        backup(state_dir, tmp_path / "copy.db")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "copy.db").exists()
    monkeypatch.undo()
    backup(state_dir, tmp_path / "copy.db")
    assert mode(tmp_path / "copy.db") == 0o600
