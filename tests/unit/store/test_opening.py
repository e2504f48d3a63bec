"""Opening a store: made once, checked each time, never recreated over data."""

import fcntl
import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from taskpilot.domain.errors import ConfigurationError, StoreBusy, StoreError
from taskpilot.store import creation, tables
from taskpilot.store.connections import FILE
from taskpilot.store.creation import upgrade
from taskpilot.store.database import Store
from taskpilot.store.totals import Increment, add
from tests.errors import saying

pytestmark = pytest.mark.real_creation

OPEN_AND_TELL = """
import sys
from pathlib import Path
from taskpilot.store.database import Store
store = Store.open(Path(sys.argv[1]), busy_seconds=30)
print(store.store_id, store.deployment)
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    return {entry.name: digest(entry) for entry in folder.iterdir() if not entry.name.endswith((".lock", "-shm"))}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def damage(path: Path, data: bytes, *, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_a_store_has_an_identity_that_stays(state_dir: Path) -> None:
    first = Store.open(state_dir, deployment="nightly")
    first.close()
    again = Store.open(state_dir)
    again.close()
    assert (again.store_id, again.deployment) == (first.store_id, "nightly")


def test_eight_processes_that_make_one_store_agree_on_its_identity(state_dir: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN_AND_TELL, str(state_dir)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(8)
    ]
    told = [process.communicate(timeout=120) for process in started]
    assert [(process.returncode, err) for process, (_out, err) in zip(started, told, strict=True)] == [(0, b"")] * 8
    assert len({out for out, _err in told}) == 1
    with closing(sqlite3.connect(state_dir / FILE)) as connection:
        assert connection.execute("SELECT count(*) FROM store_info").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_an_upgrade_leaves_the_locks_of_an_open_store_alone(store: Store, state_dir: Path) -> None:
    # Two commands that make one store at once: without its lock the log of the one is deleted at the end of the other.
    for label in ("{}", '{"later":"yes"}'):
        with store.write() as connection:
            add(connection, "triage", [Increment("runs", label, 1)])
        upgrade(state_dir)
        command = [sys.executable, "-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM totals').fetchall()"]
        subprocess.run([*command, str(state_dir / FILE)], check=True)
    with closing(sqlite3.connect(state_dir / FILE)) as other:
        assert other.execute("SELECT count(*) FROM totals").fetchone() == (2,)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_can_look_at_a_store(state_dir: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = Store.open(state_dir / "deep" / "home")
        with store.write() as connection:
            add(connection, "triage", [Increment("runs", "{}", 1)])
            made = {entry.name: mode(entry) for entry in (state_dir / "deep" / "home").iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert f"{FILE}-wal" in made
    assert f"{FILE}-shm" in made
    assert set(made.values()) == {0o600}
    assert mode(state_dir / "deep" / "home") == 0o700


def test_a_store_that_others_could_look_at_is_closed_to_them(state_dir: Path) -> None:
    Store.open(state_dir).close()
    state_dir.chmod(0o755)
    (state_dir / FILE).chmod(0o644)
    store = Store.open(state_dir)
    try:
        with store.write() as connection:
            add(connection, "triage", [Increment("runs", "{}", 1)])
            assert {mode(entry) for entry in state_dir.iterdir()} == {0o600}
    finally:
        store.close()
    assert mode(state_dir) == 0o700


def test_an_empty_file_becomes_a_store(state_dir: Path) -> None:
    # What a crash between making the file and its schema leaves.
    state_dir.mkdir()
    (state_dir / FILE).touch(0o600)
    Store.open(state_dir).close()
    with closing(sqlite3.connect(state_dir / FILE)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (tables.HEAD,)


def test_a_creation_that_was_killed_before_its_schema_is_finished_by_the_next_one(state_dir: Path) -> None:
    # The journal mode is set before the schema's transaction, so a kill in between leaves a WAL database without any table.
    state_dir.mkdir()
    with closing(sqlite3.connect(state_dir / FILE)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert (state_dir / FILE).stat().st_size > 0
    Store.open(state_dir).close()
    with closing(sqlite3.connect(state_dir / FILE)) as connection:
        assert connection.execute("SELECT count(*) FROM store_info").fetchone() == (1,)


def test_a_newer_schema_is_refused_and_kept(state_dir: Path) -> None:
    Store.open(state_dir).close()
    with closing(sqlite3.connect(state_dir / FILE)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    before = contents(state_dir)
    with pytest.raises(ConfigurationError, check=saying(r"schema 0999, newer .* install the TaskPilot that wrote it")):
        Store.open(state_dir)
    with pytest.raises(ConfigurationError, match="schema 0999"):
        upgrade(state_dir)
    assert contents(state_dir) == before


def test_another_programs_database_is_refused_and_kept(state_dir: Path) -> None:
    state_dir.mkdir()
    with closing(sqlite3.connect(state_dir / FILE)) as connection, connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
        connection.execute("INSERT INTO photos VALUES ('cat.jpg')")
    before = contents(state_dir)
    for attempt in (Store.open, upgrade):
        with pytest.raises(StoreError, check=saying(r"not one of TaskPilot's.* move it away")):
            attempt(state_dir)
    assert contents(state_dir) == before


def test_another_programs_alembic_database_is_refused_and_kept(state_dir: Path) -> None:
    state_dir.mkdir()
    with closing(sqlite3.connect(state_dir / FILE)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
        connection.execute("CREATE TABLE photos (name TEXT)")
    before = contents(state_dir)
    for attempt in (Store.open, upgrade):
        with pytest.raises(StoreError, check=saying(r"not one of TaskPilot's.* move it away")):
            attempt(state_dir)
    assert contents(state_dir) == before


@pytest.mark.parametrize("where", ["text instead of a database", "its header", "its middle"])
def test_a_corrupt_store_is_refused_and_kept(state_dir: Path, where: str) -> None:
    store = Store.open(state_dir)
    store.close()
    path = state_dir / FILE
    if where == "text instead of a database":
        path.write_text("this was a database once\n" * 500)
    elif where == "its header":
        damage(path, b"\xff" * 100, at=0)
    else:
        damage(path, b"\xff" * (path.stat().st_size - 4096), at=4096)
    before = contents(state_dir)
    for attempt in (Store.open, upgrade):
        with pytest.raises(StoreError, check=saying(r"Nothing was overwritten.*backup")):
            attempt(state_dir)
    assert contents(state_dir) == before


@pytest.mark.parametrize("gone", ["removed", "emptied"])
@pytest.mark.parametrize("opening", [Store.open, upgrade])
def test_a_log_without_its_database_is_kept_and_nothing_is_made_over_it(state_dir: Path, gone: str, opening: object) -> None:
    assert callable(opening)
    store = Store.open(state_dir)
    with store.write() as connection:
        add(connection, "triage", [Increment("runs", "{}", 1)])
    log = state_dir / f"{FILE}-wal"
    left = log.read_bytes()
    store.close()
    if gone == "removed":
        (state_dir / FILE).unlink()
    else:
        (state_dir / FILE).write_bytes(b"")
    log.write_bytes(left)
    with pytest.raises(StoreError, check=saying(r"Nothing was overwritten.*restore .* from a backup")):
        opening(state_dir)
    assert log.read_bytes() == left
    assert not (state_dir / FILE).exists() or (state_dir / FILE).stat().st_size == 0


def test_another_deployments_name_is_refused(state_dir: Path) -> None:
    Store.open(state_dir, deployment="nightly").close()
    with pytest.raises(ConfigurationError, check=saying(r"belongs to deployment 'nightly', not 'daily'; unset TASKPILOT_DEPLOYMENT")):
        Store.open(state_dir, deployment="daily")


def test_a_strangers_state_dir_is_refused(state_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    state_dir.mkdir()
    os.chown(state_dir, 65534, 65534)
    with pytest.raises(StoreError, match="belongs to uid 65534"):
        Store.open(state_dir)
    assert list(state_dir.iterdir()) == []


def test_a_state_dir_below_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, check=saying(r"Not a directory.*TASKPILOT_HOME")):
        Store.open(tmp_path / "file" / "home")


@pytest.mark.parametrize("there", ["a folder", "a link"])
def test_a_store_that_is_no_file_is_refused(state_dir: Path, tmp_path: Path, there: str) -> None:
    state_dir.mkdir()
    if there == "a folder":
        (state_dir / FILE).mkdir()
    else:
        (state_dir / FILE).symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(StoreError, match=FILE):
        Store.open(state_dir)
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_store_that_is_locked_for_long_is_busy(store: Store, state_dir: Path) -> None:
    with closing(sqlite3.connect(state_dir / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        impatient = Store.open(state_dir, busy_seconds=0.05)
        try:
            with pytest.raises(StoreBusy, check=saying("locked by another process; try again")), impatient.write():
                pytest.fail("two processes write at once")
        finally:
            impatient.close()


def test_a_creation_that_hangs_is_not_waited_for_without_end(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(creation, "CREATION_SECONDS", 0.1)
    state_dir.mkdir()
    with (state_dir / f"{FILE}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreBusy, check=saying("try again")):
            Store.open(state_dir)


def test_a_store_that_is_moved_away_while_it_is_open_is_not_replaced_by_an_empty_one(store: Store, state_dir: Path) -> None:
    with store.write() as connection:
        add(connection, "triage", [Increment("runs", "{}", 1)])
    (state_dir / FILE).rename(state_dir / "away.db")
    store.dispose()
    with pytest.raises(StoreError, check=saying("the file is gone.* put it back")), store.write():
        pytest.fail("there is nothing to write to")
    assert not (state_dir / FILE).exists()
    (state_dir / "away.db").rename(state_dir / FILE)
    with store.read() as connection:
        assert [row.value for row in connection.execute(tables.totals.select())] == [1]


@pytest.mark.parametrize("name", ["100%", "a b", "what?", "#1", "ünï", "a&mode=memory", "semi;colon", "quo'te\""])
def test_a_folder_of_any_name_holds_a_store(state_dir: Path, name: str) -> None:
    Store.open(state_dir / name).close()
    assert (state_dir / name / FILE).stat().st_size > 0
    assert [entry.name for entry in state_dir.iterdir()] == [name]
