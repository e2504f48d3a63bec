"""Copies of the store: a backup, and a backup put back."""

import errno
import fcntl
import os
import secrets
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskpilot.domain.errors import StoreBusy, StoreError
from taskpilot.store.connections import FILE, connect
from taskpilot.store.creation import create, prepare_state_dir
from taskpilot.store.errors import KEPT, file_errors, store_errors
from taskpilot.store.identity import ENDING, check_identity, log_of

_LOCK_SECONDS: Final = 30.0
"""A restore waits so long for the store's lock."""
_SHM_OPEN_BYTE: Final = 128
"""Where in the -shm file each process that has the database open holds a lock (UNIX_SHM_DMS, a fixed part of SQLite's file format)."""
_FLOCK: Final = "hhqqi"


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did."""

    kept: Path | None
    """A copy of the former store; None where there was none."""
    in_use: bool
    """Other processes had the store open and go on with the restored content."""
    runs: int


def backup(state_dir: Path, target: Path) -> None:
    """A consistent copy of the store in a new file (0600), also while runs write. Raises StoreError where the file exists.

    The file gets its name when it is complete.
    """
    path = state_dir / FILE
    if not path.exists():
        raise StoreError(f"there is no store at {path} to back up")
    with file_errors(target), _partial(target) as part:
        try:
            with closing(connect(path)) as source, closing(connect(part)) as copy:
                source.backup(copy)
                _check_sound(copy)
                # No other file has this number: see `identity`.
                copy.execute(f"PRAGMA user_version = {secrets.randbelow(2**31 - 1) + 1}")
        except sqlite3.Error as error:
            raise StoreError(
                f"the store {path} could not be copied to {target}: {error}; no copy is left, the store is as it was"
            ) from error
        _name_new(part, target)


def restore(state_dir: Path, source: Path, *, kept: Path) -> Restored:
    """Gives the store the content of a backup, upgraded to this version's schema; `kept` becomes a copy of the former store.

    A sound store is overwritten by SQLite in one transaction, so that processes that have it open go on with the new content. A damaged one
    is put away with its log, which no process may have open then. Raises StoreError or StoreBusy; the store is as it was then.
    """
    path = state_dir / FILE
    with file_errors(path):
        prepare_state_dir(state_dir)
    in_use = _is_open(path)
    with file_errors(source), _partial(path) as part:
        if not source.is_file():
            raise StoreError(f"{source} is not a file")
        if source.samefile(path) if path.exists() else False:
            raise StoreError(f"{source} is the store itself")
        with store_errors(source):
            # Without a log, SQLite would have to make one to read it, on a disk that may be read-only.
            how = "mode=ro" if log_of(source).exists() else "immutable=1"
            with closing(sqlite3.connect(f"{source.resolve().as_uri()}?{how}", uri=True)) as given, closing(connect(part)) as copy:
                given.backup(copy)
                _check_sound(copy)
                if not copy.execute("SELECT 1 FROM sqlite_master WHERE name = 'store_info'").fetchone():
                    raise StoreError(f"{source} is no backup of a store of TaskPilot. {KEPT}")
        create(part, 5.0)
        with closing(connect(part)) as copy:
            store_id = _store_id(copy)
            runs = int(copy.execute("SELECT count(*) FROM runs").fetchone()[0])
        before = _sound_store_id(path)
        if in_use and before not in (None, store_id):
            raise StoreError(f"{source} is a backup of another store. {KEPT}", hint="stop every run and `taskpilot serve` first")
        if before is not None:
            backup(state_dir, kept)
            _overwrite(path, part)
            return Restored(kept, in_use, runs)
        if in_use:
            raise StoreError(f"the store {path} is damaged and in use. {KEPT}", hint="stop every run and `taskpilot serve` first")
        there = path.exists() or log_of(path).exists()
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + ending).rename(kept.with_name(kept.name + ending))
        path.with_name(path.name + ENDING).unlink(missing_ok=True)
        part.rename(path)
        _sync_folder(state_dir)
        return Restored(kept if there else None, in_use, runs)


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """An empty file beside the target, deleted at the end unless it was renamed."""
    part = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    try:
        yield part
    finally:
        for ending in ("", "-wal", "-shm", "-journal", ".lock", ENDING):
            part.with_name(part.name + ending).unlink(missing_ok=True)


def _name_new(part: Path, target: Path) -> None:
    """Gives a complete file its name. Raises FileExistsError."""
    descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(part, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # This file system has no hard links.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        part.rename(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_sound(copy: sqlite3.Connection) -> None:
    if (found := copy.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(f"it is damaged: {found}")


def _store_id(connection: sqlite3.Connection) -> str:
    found = connection.execute("SELECT store_id FROM store_info").fetchone()
    return "" if found is None else str(found[0])


def _sound_store_id(path: Path) -> str | None:
    """The id of the store at the path; None where it is missing, damaged, or beside the log of another file."""
    if not path.exists() or path.stat().st_size == 0:
        return None
    try:
        check_identity(path)
        with closing(connect(path, 5.0)) as connection:
            _check_sound(connection)
            return _store_id(connection)
    except (StoreError, sqlite3.DatabaseError):
        return None


def _overwrite(path: Path, part: Path) -> None:
    """Copies the content of one database over another, as one transaction."""
    with store_errors(path), closing(connect(path, 5.0)) as live, closing(connect(part)) as new:
        # The file stays the same one, so it keeps its mark.
        mark = live.execute("PRAGMA user_version").fetchone()[0]
        new.execute(f"PRAGMA user_version = {mark}")
        new.backup(live, progress=_give_up_after(_LOCK_SECONDS, path), sleep=0.05)
        live.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _give_up_after(seconds: float, path: Path) -> Callable[[int, int, int], None]:
    """SQLite's backup waits for a lock without end."""
    end = time.monotonic() + seconds

    def check(status: int, _left: int, _all: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > end:
            raise StoreBusy(f"the store {path} is locked by another process", hint="try again")

    return check


def _is_open(path: Path) -> bool:
    """Whether any process has the database open. Asked before this process opens it: closing the descriptor gives back locks."""
    try:
        descriptor = os.open(path.with_name(path.name + "-shm"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _SHM_OPEN_BYTE, 1, 0)
        kind, *_ = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    finally:
        os.close(descriptor)
    return bool(kind != fcntl.F_UNLCK)
