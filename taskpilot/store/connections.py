"""Connections to the store's file."""

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, exc

from taskpilot.store.identity import check_identity

FILE: Final = "taskpilot.db"
_CHECKPOINT_PAGES: Final = 8000
"""The log is written back into the file where it holds 32 MB, eight times as much as usual: a server does it in a quiet moment, and a
thousand claims of one second do not pay for it."""


@dataclass(slots=True)
class BusyTimeout:
    """How long a connection that is opened from here on waits for a lock."""

    seconds: float


def make_engine(path: Path, busy_timeout: BusyTimeout) -> Engine:
    """An engine whose writes are BEGIN IMMEDIATE and survive a power cut."""
    engine = create_engine(
        "sqlite+pysqlite:///taskpilot.db",
        creator=lambda: connect(path, busy_timeout.seconds),
        pool_size=16,
        max_overflow=64,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        record.info["file"] = _file_number(path)
        # The driver's transaction control is off: a deferred transaction that reads, then writes, fails at once when another writes.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")
        # FULL: a row that was acknowledged survives a power cut; 0.3 ms a commit.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")

    @event.listens_for(engine, "checkout")
    def _check(_connection: Any, record: Any, _proxy: Any) -> None:
        # Where another file was put in its place, what is written into ours would be lost. One that only moved away may return.
        if _file_number(path) not in (record.info["file"], None):
            check_identity(path)
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
    """Device and inode of the file at the path; None where there is none."""
    with suppress(OSError):
        info = path.stat()
        return info.st_dev, info.st_ino
    return None
