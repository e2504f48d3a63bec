"""Creates and upgrades the store's file; one process at a time, and never over data."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Final

from sqlalchemy import Engine, text

from taskpilot.domain.errors import ConfigurationError, StoreBusy, StoreError
from taskpilot.files import take_lock, write_new
from taskpilot.store import tables
from taskpilot.store.connections import FILE, BusyTimeout, make_engine
from taskpilot.store.errors import ANOTHER_STATE_DIR, KEPT, file_errors, store_errors
from taskpilot.store.identity import check_identity

CREATION_SECONDS: Final = 30.0
"""Creating or upgrading a store takes a second; a process that waits longer for another one raises StoreBusy."""


def is_missing(state_dir: Path) -> bool:
    """True where there is no store yet, or the empty file of one.

    Raises StoreError where it is gone but its log is there, and where there can be none: below a file.
    """
    path = state_dir / FILE
    with file_errors(path):
        if path.exists() and path.stat().st_size > 0:
            return False
        _refuse_lone_log(path)
        nearest = next(folder for folder in path.parents if os.path.lexists(folder))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
        return True


def prepare_state_dir(state_dir: Path) -> None:
    """Makes the state dir (0700) where it is missing. Raises StoreError where that fails, or another user owns it.

    It keeps itself out of git, also where the project's .gitignore does not name it.
    """
    with file_errors(state_dir):
        is_new = not state_dir.exists() or not any(state_dir.iterdir())
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = state_dir.stat()
        if stat.S_IMODE(info.st_mode) & 0o077 and info.st_uid == os.geteuid():
            state_dir.chmod(0o700)
    if info.st_uid not in (os.geteuid(), 0):
        raise StoreError(f"the state dir {state_dir} belongs to uid {info.st_uid}, not to us", hint=ANOTHER_STATE_DIR)
    if is_new:
        with suppress(OSError):
            write_new(state_dir / ".gitignore", "*\n")


def upgrade(state_dir: Path) -> tuple[str | None, str]:
    """Brings the schema to the newest revision; gives the revision before, None where there was no store, and the one after."""
    path = state_dir / FILE
    with file_errors(path):
        prepare_state_dir(state_dir)
        return create(path, 5.0), tables.HEAD


def create(path: Path, busy_seconds: float) -> str | None:
    """Makes or upgrades the schema, one process at a time; a crash in the middle leaves the old schema or a database without tables.

    Gives the schema's revision before, None where there was none.
    """
    lock = take_lock(path.with_name(path.name + ".lock"), CREATION_SECONDS)
    if lock is None:
        hint = f"try again; `fuser {quote(str(path))}.lock` shows who"
        raise StoreBusy(f"another process makes or upgrades the store {path}", hint=hint)
    try:
        _refuse_lone_log(path)
        check_identity(path)
        # Only where there is none: to close a file drops the locks that another connection of this process holds on it.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        engine = make_engine(path, BusyTimeout(busy_seconds))
        try:
            with store_errors(path):
                revision = revision_of(engine, path)
                if revision is not None and revision > tables.HEAD:
                    raise other_schema(path, revision)
                _migrate(engine)
                return revision
        finally:
            engine.dispose()
    finally:
        os.close(lock)


def _refuse_lone_log(path: Path) -> None:
    """SQLite deletes a log beside a missing or an empty database, and with it the newest records."""
    state = "gone" if not path.exists() else "empty" if path.stat().st_size == 0 else "there"
    # A process that is killed while it creates the store leaves a rollback journal beside an empty file.
    for companion in {"gone": ("-wal", "-journal"), "empty": ("-wal",)}.get(state, ()):
        beside = path.with_name(path.name + companion)
        if beside.exists() and beside.stat().st_size > 0:
            hint = f"restore {path.name} from a backup, or move {beside.name} away"
            raise StoreError(f"{beside} is there but {path} is {state}. {KEPT}", hint=hint)


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


def revision_of(engine: Engine, path: Path) -> str | None:
    """The schema's revision; None where there is no table yet. Raises StoreError where the tables are not TaskPilot's."""
    with engine.connect() as connection:
        names = set(connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars())
        if not names:
            return None
        if {"alembic_version", tables.store_info.name} <= names:
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            if revision is not None:
                return str(revision)
    raise StoreError(f"{path} is a database, but not one of TaskPilot's. {KEPT}", hint=f"move it away, or {ANOTHER_STATE_DIR}")


def other_schema(path: Path, revision: str) -> ConfigurationError:
    """The error for a store of that revision, with a hint."""
    if revision.isdigit() and revision < tables.HEAD:
        sentence = f"the store {path} has schema {revision}, this version needs {tables.HEAD}. {KEPT}"
        return ConfigurationError(sentence, hint="taskpilot db backup && taskpilot db upgrade")
    sentence = f"the store {path} has schema {revision}, newer than this version's {tables.HEAD}. {KEPT}"
    return ConfigurationError(sentence, hint="install the TaskPilot that wrote it")
