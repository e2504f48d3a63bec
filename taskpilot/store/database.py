"""Opens the store: one SQLite file in the state dir, checked before use and never recreated over data."""

import fcntl
import os
import socket
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self, TypeAlias
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Row, create_engine, event, exc, func, insert, select, text

from taskpilot.domain.errors import ConfigurationError, StoreBusy, StoreError
from taskpilot.domain.identity import new_id
from taskpilot.domain.moments import to_micros, utc_now
from taskpilot.store import tables
from taskpilot.store.refusals import KEPT, file_errors, store_errors

Transaction: TypeAlias = Connection
"""What `Store.write` and `Store.read` give, by a name that other rooms may say."""
Record: TypeAlias = Row[Any]
"""A row as it is in the store, with the columns that no domain object shows."""

FILE: Final = "taskpilot.db"
CREATION_SECONDS: Final = 30.0
"""Making or upgrading a store takes a second; who waits longer than this for another one's is told so."""


class Store:
    """The record. Every write is one BEGIN IMMEDIATE transaction; errors are StoreError (74) or StoreBusy (75)."""

    def __init__(self, engine: Engine, path: Path, *, store_id: str, deployment: str) -> None:
        self._engine = engine
        self.path = path
        self.store_id = store_id
        self.deployment = deployment

    @classmethod
    def open(cls, state_dir: Path, deployment: str | None = None, *, busy_seconds: float = 5.0) -> Self:
        """The store of a state dir, made where there is none yet.

        Raises StoreError (unusable file or folder), StoreBusy (locked for longer than `busy_seconds`) or ConfigurationError
        (another deployment's name, or a schema that this version does not know).
        """
        path = state_dir / FILE
        with file_errors(path):
            prepare_state_dir(state_dir)
            if not path.exists() or path.stat().st_size == 0:
                _create(path, busy_seconds)
            _check_file(path)
        engine = _engine(path, busy_seconds)
        try:
            with store_errors(path), file_errors(path):
                revision = _revision(engine, path)
                if revision is None:
                    # Its creation goes on right now, or was killed before the schema was there.
                    _create(path, busy_seconds)
                elif revision != tables.HEAD:
                    raise ConfigurationError(_revision_message(path, revision))
                store_id, name = _identity(engine, deployment)
        except BaseException:
            engine.dispose()
            raise
        if deployment is not None and deployment != name:
            engine.dispose()
            raise ConfigurationError(
                f"the store {path} belongs to deployment {name!r}, not {deployment!r}: "
                "unset TASKPILOT_DEPLOYMENT, or give another TASKPILOT_HOME"
            )
        return cls(engine, path, store_id=store_id, deployment=name)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that holds the write lock from its start; all of it is kept, or nothing."""
        with store_errors(self.path), self._engine.connect() as connection:
            connection.execution_options(taskpilot_write=True)
            with connection.begin():
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view."""
        with store_errors(self.path), self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        """Closes all connections; the next use opens new ones. Before a fork, so that none is shared."""
        self._engine.dispose()

    def after_fork(self) -> None:
        """In a forked child: forgets the parent's pool without touching its connections."""
        self._engine.dispose(close=False)

    def close(self) -> None:
        """Lets go of the file."""
        self._engine.dispose()


def is_missing(state_dir: Path) -> bool:
    """True where there is no store yet, or the empty file of one. Raises StoreError where it is gone but its log is there."""
    path = state_dir / FILE
    with file_errors(path):
        if path.exists() and path.stat().st_size > 0:
            return False
        _refuse_lone_log(path)
        return True


def prepare_state_dir(state_dir: Path) -> None:
    """Makes the state dir (0700) where it is missing. Raises StoreError where that cannot be, or it is a stranger's."""
    with file_errors(state_dir):
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = state_dir.stat()
        if stat.S_IMODE(info.st_mode) & 0o077 and info.st_uid == os.geteuid():
            state_dir.chmod(0o700)
    if info.st_uid not in (os.geteuid(), 0):
        raise StoreError(f"the state dir {state_dir} belongs to uid {info.st_uid}, not to us: give another one by TASKPILOT_HOME or --home")


def upgrade(state_dir: Path) -> str:
    """Brings the schema to the newest revision; gives that revision's name."""
    path = state_dir / FILE
    with file_errors(path):
        prepare_state_dir(state_dir)
        _create(path, 5.0)
    return tables.HEAD


def backup(state_dir: Path, target: Path) -> None:
    """A consistent copy of the store in a new file (0600), also while runs write. Raises StoreError where the file exists."""
    path = state_dir / FILE
    if not path.exists():
        raise StoreError(f"there is no store at {path} to back up")
    with file_errors(target):
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
        try:
            with closing(connect(path)) as source, closing(connect(target)) as copy:
                source.backup(copy)
                found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(f"it is damaged: {found}")
        except sqlite3.Error as error:
            target.unlink()
            raise StoreError(
                f"the store {path} could not be copied to {target}: {error}; no copy is left, the store is as it was"
            ) from error


def _engine(path: Path, busy_seconds: float) -> Engine:
    engine = create_engine(
        "sqlite+pysqlite:///taskpilot.db",
        creator=lambda: connect(path, busy_seconds),
        pool_size=16,
        max_overflow=64,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        record.info["file"] = _file_number(path)
        # The driver's own transaction control is off: a deferred transaction that reads, then writes, fails at once when another writes.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")
        # FULL: a row that was acknowledged survives a power cut; 0.3 ms a commit.
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "checkout")
    def _check(_connection: Any, record: Any, _proxy: Any) -> None:
        # Where another file was put in its place, nobody would ever read what is written into ours. One that only moved away may return.
        if _file_number(path) not in (record.info["file"], None):
            raise exc.DisconnectionError

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("taskpilot_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def connect(path: Path, busy_seconds: float = 5.0) -> sqlite3.Connection:
    """A new connection. It never makes the file: one that was moved away is not replaced by an empty one, which would cost its log."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=busy_seconds, check_same_thread=False)


def _file_number(path: Path) -> tuple[int, int] | None:
    """Which file stands at the path: device and inode; None where there is none."""
    with suppress(OSError):
        info = path.stat()
        return info.st_dev, info.st_ino
    return None


def _create(path: Path, busy_seconds: float) -> None:
    """Makes or upgrades the schema, one process at a time; a crash in the middle leaves the old schema or a database without tables."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, path)
        _refuse_lone_log(path)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        engine = _engine(path, busy_seconds)
        try:
            with store_errors(path):
                revision = _revision(engine, path)
                if revision is not None and revision > tables.HEAD:
                    raise ConfigurationError(_revision_message(path, revision))
                _migrate(engine)
        finally:
            engine.dispose()
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    give_up = time.monotonic() + CREATION_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise StoreBusy(f"another process makes or upgrades the store {path}: try again; `fuser {path}.lock` shows who") from None
            time.sleep(0.02)


def _refuse_lone_log(path: Path) -> None:
    """SQLite deletes a log that it finds beside no database or an empty one, and with it all that was recorded last."""
    state = "gone" if not path.exists() else "empty" if path.stat().st_size == 0 else "there"
    # A rollback journal beside an empty file is what a kill in the middle of a creation leaves.
    for companion in {"gone": ("-wal", "-journal"), "empty": ("-wal",)}.get(state, ()):
        beside = path.with_name(path.name + companion)
        if beside.exists() and beside.stat().st_size > 0:
            raise StoreError(f"{beside} is there but {path} is {state}: restore it from a backup, or move {beside.name} away. {KEPT}")


def _migrate(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    with engine.connect() as connection:
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
            connection.rollback()
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.execute("PRAGMA journal_mode=WAL")
        connection.rollback()
        connection.execution_options(taskpilot_write=True)
        with connection.begin():
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _check_file(path: Path) -> None:
    info = path.stat()
    if stat.S_IMODE(info.st_mode) & 0o077 and info.st_uid == os.geteuid():
        path.chmod(0o600)
    if not os.access(path, os.W_OK):
        raise StoreError(f"the store {path} is read-only for us: give us the right to write it. {KEPT}")


def _identity(engine: Engine, deployment: str | None) -> tuple[str, str]:
    with engine.connect() as connection:
        info = connection.execute(select(tables.store_info)).first() or _introduce(engine, deployment)
    return info.store_id, info.deployment


def _revision(engine: Engine, path: Path) -> str | None:
    """The schema's revision; None where there is no table yet. Raises StoreError where the tables are somebody else's."""
    with engine.connect() as connection:
        names = set(connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars())
        if not names:
            return None
        if {"alembic_version", tables.store_info.name} <= names:
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            if revision is not None:
                return str(revision)
    raise StoreError(f"{path} is a database, but not one of TaskPilot's: move it away, or give another TASKPILOT_HOME. {KEPT}")


def _revision_message(path: Path, revision: str) -> str:
    if revision.isdigit() and revision < tables.HEAD:
        mend = "type `taskpilot db backup`, then `taskpilot db upgrade`"
        return f"the store {path} has schema {revision}, this version needs {tables.HEAD}: {mend}. {KEPT}"
    return f"the store {path} has schema {revision}, newer than this version's {tables.HEAD}: install the TaskPilot that wrote it. {KEPT}"


def _introduce(engine: Engine, deployment: str | None) -> Any:
    store_id = new_id()
    name = deployment or f"{socket.gethostname().split('.')[0]}-{store_id[-6:]}"
    with engine.connect() as connection:
        connection.execution_options(taskpilot_write=True)
        with connection.begin():
            if not connection.execute(select(func.count()).select_from(tables.store_info)).scalar():
                row = {"only": 1, "store_id": store_id, "deployment": name, "created_at": to_micros(utc_now())}
                connection.execute(insert(tables.store_info).values(row))
            return connection.execute(select(tables.store_info)).one()
