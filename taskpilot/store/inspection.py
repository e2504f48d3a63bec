"""Inspects a store in any state without creating, repairing, locking or writing anything.

SQLite would write in three ways, and each is shut off: `mode=ro` cannot write the file nor fold the log into it when it is closed;
`readonly_shm` maps the log's index (-shm) for reading, and builds one in memory where no process holds it; where there is no log, or
an empty one, `immutable` keeps SQLite from making both. What it read that way is taken only if the file did not change meanwhile.
"""

import os
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote

from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.text import one_line
from taskpilot.domain.times import from_micros
from taskpilot.store.connections import FILE
from taskpilot.store.errors import BUSY, sqlite_code
from taskpilot.store.identity import has_foreign_log
from taskpilot.store.tables import HEAD

CHECK_SECONDS: Final = 3.0
"""A store that takes longer to check is checked in part, and `Inspection` shows that."""
LOCK_SECONDS: Final = 1.0
"""A write takes milliseconds: a process that holds the lock at every check in this time blocks the others."""
_LOCK_CHECKS: Final = 20
_TRIES: Final = 3
_STEPS_A_LOOK: Final = 20_000
"""SQLite's instructions between two checks of the time, about a millisecond."""
_WRITE_LOCK_BYTE: Final = 120
"""Where in the -shm file SQLite's writers lock (WAL_WRITE_LOCK, a fixed part of its file format)."""
_UNWRITTEN: Final = """
    SELECT count(*) FROM attempts JOIN runs ON runs.id = attempts.run_id
    WHERE traces_written_at IS NULL AND attempts.ended_at IS NOT NULL AND runs.status NOT IN ('queued', 'running')
"""
_UNDELIVERED: Final = "SELECT count(DISTINCT run_id) FROM attempts WHERE traces_due_at IS NOT NULL"
_FAILURES: Final = "SELECT json_extract(labels, '$.sink'), sum(value) FROM totals WHERE metric = ? GROUP BY 1"
_NOTICES: Final = """
    SELECT channel, count(*), max(error) FROM notices
    WHERE due_at IS NOT NULL AND attempts > 0 AND result IN ('failed', 'unknown') GROUP BY channel ORDER BY channel
"""
_BLOCKED: Final = """
    SELECT job, checked_at, json_extract(reason_facts, '$.error'), json_extract(reason_facts, '$.hint') FROM job_checks
    WHERE reason_code = 'configuration'
    AND (SELECT state FROM schedulers ORDER BY last_tick_at DESC LIMIT 1) != 'stopped'
    ORDER BY job
"""
_FLOCK: Final = "hhqqi"
"""Linux's struct flock on 64-bit machines."""


class Condition(StrEnum):
    """How far a store could be read."""

    READ = "read"
    NONE = "none"
    """There is no file: the first run makes it."""
    HALF_MADE = "half_made"
    """A file without tables: it is being created, or its creation was interrupted."""
    LONE_LOG = "lone_log"
    """A log with rows beside a missing or an empty file."""
    LOG_WITHOUT_INDEX = "log_without_index"
    """The log holds rows and its index is gone: reading would write."""
    NOT_A_DATABASE = "not_a_database"
    CORRUPT = "corrupt"
    FOREIGN = "foreign"
    """A database without TaskPilot's tables."""
    OTHER_SCHEMA = "other_schema"
    LOCKED = "locked"
    """Locked also against readers."""
    UNREADABLE = "unreadable"


_CONDITIONS: Final = {
    sqlite3.SQLITE_NOTADB: Condition.NOT_A_DATABASE,
    sqlite3.SQLITE_CORRUPT: Condition.CORRUPT,
    **dict.fromkeys(BUSY, Condition.LOCKED),
}
"""The condition for each of SQLite's result codes."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A gateway group that is not known to hold the newest values."""

    job: str
    error: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A channel with notices that were tried and are to be tried again."""

    channel: str
    notices: int
    error: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """A job that a server found unable to start, in the server's environment."""

    job: str
    checked_at: datetime
    error: str
    hint: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result of an inspection."""

    path: Path
    condition: Condition
    detail: str = ""
    """The error of SQLite or the disk, one line; empty where there was none."""
    schema: str | None = None
    newest_schema: str = HEAD
    store_id: str | None = None
    deployment: str | None = None
    runs: int = 0
    pending: tuple[Pending, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    """By the newest check of a server that was not stopped."""
    unwritten_traces: int = 0
    """Attempts that are over and whose spans are in no file yet."""
    undelivered_traces: int = 0
    """Runs with spans that were not sent to the collector."""
    telemetry_failures: Mapping[str, int] = field(default_factory=dict)
    """How often each sink failed since the store was created."""
    undelivered_notices: tuple[Undelivered, ...] = ()
    wal: bool = False
    """Whether it is in write-ahead mode."""
    log_bytes: int = 0
    damage: tuple[str, ...] = ()
    """What SQLite's integrity check found, a few lines of it."""
    check_cut: bool = False
    """The check ran out of time."""
    locked_by: int | None = None
    """The process that blocks the write lock."""


def inspect(state_dir: Path) -> Inspection:
    """Inspects the store of a state dir. Never raises for what is wrong with it."""
    path = state_dir / FILE
    try:
        return _inspect(path)
    except OSError as error:
        return Inspection(path, Condition.UNREADABLE, error.strerror or str(error))


def _inspect(path: Path) -> Inspection:
    log = _beside(path, "-wal")
    log_bytes = _size(log)
    size = _size(path)
    if size is None and not log_bytes:
        return Inspection(path, Condition.NONE)
    if not size and log_bytes:
        return Inspection(path, Condition.LONE_LOG, log_bytes=log_bytes)
    if not stat.S_ISREG(path.stat().st_mode):
        return Inspection(path, Condition.UNREADABLE, "it is not a file")
    if not size:
        return Inspection(path, Condition.HALF_MADE)
    if has_foreign_log(path):
        return Inspection(path, Condition.CORRUPT, "another file was put beside the log of the former one", log_bytes=log_bytes or 0)
    with path.open("rb"):
        # Raises the error of the disk; SQLite's message has no cause.
        pass
    holder = _holder(path)
    for _try in range(_TRIES):
        mapped, before = _mapped(path), _file_state(path)
        found = _read(path, log_bytes or 0, holder, mapped=mapped)
        # With a log, SQLite gives a consistent view; without one, only a file that did not change meanwhile.
        if (mapped and found.condition is Condition.READ) or _file_state(path) == before:
            return found
    return Inspection(path, Condition.UNREADABLE, "it was being written at every attempt to read it")


def _read(path: Path, log_bytes: int, holder: int | None, *, mapped: bool) -> Inspection:
    if log_bytes and not _beside(path, "-shm").exists():
        return Inspection(path, Condition.LOG_WITHOUT_INDEX, log_bytes=log_bytes)
    owners = {file.stat().st_uid for file in (path, _beside(path, "-wal"), _beside(path, "-shm")) if file.exists()}
    if len(owners) > 1:
        # SQLite, run by uid 0, would give the log to the owner of the file.
        return Inspection(path, Condition.UNREADABLE, "the file and its log (-wal, -shm) belong to different users", log_bytes=log_bytes)
    how = "readonly_shm=1" if mapped else "immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&{how}", uri=True, timeout=1.0, isolation_level=None)) as connection:
            return _facts(connection, path, log_bytes, holder)
    except sqlite3.Error as error:
        message = one_line(str(error))
        condition = _CONDITIONS.get(sqlite_code(error), Condition.UNREADABLE)
        return Inspection(path, condition, message, log_bytes=log_bytes, locked_by=holder)


def _mapped(path: Path) -> bool:
    """Whether the log and its index are both there."""
    return bool(_size(_beside(path, "-wal"))) and _beside(path, "-shm").exists()


def _facts(connection: sqlite3.Connection, path: Path, log_bytes: int, holder: int | None) -> Inspection:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return Inspection(path, Condition.HALF_MADE)
    revision = None
    if {"alembic_version", "store_info"} <= tables:
        revision = next((str(number) for (number,) in connection.execute("SELECT version_num FROM alembic_version")), None)
    if revision is None:
        return Inspection(path, Condition.FOREIGN)
    damage, cut = _damage(connection)
    if revision != HEAD:
        return Inspection(
            path, Condition.OTHER_SCHEMA, schema=revision, damage=damage, check_cut=cut, log_bytes=log_bytes, locked_by=holder
        )
    identity = connection.execute("SELECT store_id, deployment FROM store_info").fetchone() or (None, None)
    pending = connection.execute(
        "SELECT job, push_error FROM job_state WHERE version > pushed_version OR push_timed_out_at IS NOT NULL ORDER BY job"
    )
    return Inspection(
        path,
        Condition.READ,
        schema=revision,
        store_id=identity[0],
        deployment=identity[1],
        runs=connection.execute("SELECT count(*) FROM runs").fetchone()[0],
        pending=tuple(Pending(str(job), one_line(str(error or ""))) for job, error in pending),
        blocked=tuple(
            Blocked(str(job), from_micros(at), str(error or ""), str(hint or "")) for job, at, error, hint in connection.execute(_BLOCKED)
        ),
        unwritten_traces=connection.execute(_UNWRITTEN).fetchone()[0],
        undelivered_traces=connection.execute(_UNDELIVERED).fetchone()[0],
        telemetry_failures={str(sink): number for sink, number in connection.execute(_FAILURES, (TELEMETRY_FAILURES.name,))},
        undelivered_notices=tuple(
            Undelivered(str(channel), number, one_line(str(error or ""))) for channel, number, error in connection.execute(_NOTICES)
        ),
        wal=_in_wal_mode(path),
        log_bytes=log_bytes,
        damage=damage,
        check_cut=cut,
        locked_by=holder,
    )


def _damage(connection: sqlite3.Connection) -> tuple[tuple[str, ...], bool]:
    """What the integrity check found, and whether it was cut short."""
    with _bounded(connection):
        try:
            found = tuple(one_line(str(line)) for (line,) in connection.execute("PRAGMA integrity_check(3)"))
        except sqlite3.OperationalError as error:
            if sqlite_code(error) != sqlite3.SQLITE_INTERRUPT:
                raise
            return (), True
    return (() if found == ("ok",) else found), False


@contextmanager
def _bounded(connection: sqlite3.Connection) -> Iterator[None]:
    end = time.monotonic() + CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_A_LOOK)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def _in_wal_mode(path: Path) -> bool:
    """Read from the file's header: an immutable connection reports every mode as `delete`."""
    with path.open("rb") as file:
        return file.read(20)[18:20] == b"\x02\x02"


def _holder(path: Path) -> int | None:
    """The process that holds the write lock at every check for a second and commits nothing; the kernel is asked, no lock is taken.

    Before any connection of ours is open: closing this descriptor would give back the locks that one holds on the file.
    """
    index, before = _beside(path, "-shm"), _file_state(path)
    if sys.platform != "linux" or not index.exists():
        return None
    import fcntl
    import struct

    question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _WRITE_LOCK_BYTE, 1, 0)
    holder: int | None = None
    descriptor = os.open(index, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for check in range(_LOCK_CHECKS):
            kind, _whence, _start, _length, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
            if kind == fcntl.F_UNLCK or (check and pid != holder):
                return None
            holder = pid
            time.sleep(LOCK_SECONDS / _LOCK_CHECKS)
    finally:
        os.close(descriptor)
    # A process that commits releases the lock in between.
    return holder if _file_state(path) == before else None


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _size(path: Path) -> int | None:
    """None where there is no file. Raises OSError where that cannot be determined."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _file_state(path: Path) -> tuple[tuple[int, int, int] | None, ...]:
    def one(file: Path) -> tuple[int, int, int] | None:
        try:
            status = file.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    return one(path), one(_beside(path, "-wal"))
