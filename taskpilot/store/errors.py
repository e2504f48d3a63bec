"""Turns errors of the disk and of SQLite into StoreError and StoreBusy, with a hint."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Final

from sqlalchemy import exc

from taskpilot.domain.errors import StoreBusy, StoreError

KEPT: Final = "Nothing was overwritten."
ANOTHER_STATE_DIR: Final = "give another state dir by TASKPILOT_HOME or --home"
RESTORE: Final = "restore it from a backup: taskpilot db restore FILE"
_FREE_SPACE: Final = "free some space and try again"
_HINTS: Final = {
    sqlite3.SQLITE_FULL: _FREE_SPACE,
    sqlite3.SQLITE_READONLY: "give us the right to write it",
    sqlite3.SQLITE_CORRUPT: RESTORE,
    sqlite3.SQLITE_NOTADB: RESTORE,
}
BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def sqlite_code(error: BaseException | None) -> int:
    """SQLite's primary result code; 0 for an error that does not come from SQLite itself."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Raises StoreError for an OSError."""
    try:
        yield
    except OSError as error:
        what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
        raise StoreError(
            f"the state dir cannot be used: {what}: {error.filename or path}. {KEPT}",
            hint=f"Check its rights and space, or {ANOTHER_STATE_DIR}",
        ) from error


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Raises StoreBusy or StoreError for what SQLite raises; an IntegrityError is the caller's."""
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        if sqlite_code(cause) in BUSY:
            hint = f"try again; `fuser {quote(str(path))}` shows who holds it"
            raise StoreBusy(f"the store {path} is locked by another process", hint=hint) from error
        if isinstance(error, exc.IntegrityError | sqlite3.IntegrityError):
            raise
        what, hint = _cause_and_hint(cause, path)
        raise StoreError(f"the store {path} cannot be used: {what}. {KEPT}", hint=hint) from error


def _cause_and_hint(cause: BaseException | None, path: Path) -> tuple[str, str]:
    if (hint := _HINTS.get(sqlite_code(cause))) is not None:
        return str(cause), hint
    if not path.exists():
        return "the file is gone", f"put it back, or {RESTORE}"
    with suppress(OSError):
        # SQLite reports a full disk as an I/O error where the file that it shares with other processes cannot grow.
        if not os.statvfs(path).f_bavail:
            return f"the disk is full ({cause})", _FREE_SPACE
    return str(cause), "check the disk and the permissions of that folder"
