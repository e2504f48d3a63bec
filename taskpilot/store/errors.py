"""What the disk and SQLite say, in our own words: what happened, what was kept, what helps."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import exc

from taskpilot.domain.errors import StoreBusy, StoreError

KEPT: Final = "Nothing was overwritten."


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Raises StoreError for an OSError."""
    try:
        yield
    except OSError as error:
        what = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or str(error))
        raise StoreError(
            f"the state dir cannot be used: {what}: {error.filename or path}. "
            f"Check its rights and space, or give another one by TASKPILOT_HOME or --home. {KEPT}"
        ) from error


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Raises StoreBusy or StoreError for what SQLite raises; an IntegrityError is the caller's."""
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as error:
        cause = str(error.orig if isinstance(error, exc.DBAPIError) else error)
        if "locked" in cause or "busy" in cause:
            raise StoreBusy(f"the store {path} is locked by another process: try again; `fuser {path}` shows who holds it") from error
        if isinstance(error, exc.IntegrityError):
            raise
        raise StoreError(f"the store {path} cannot be used: {_cause_and_help(cause, path)}. {KEPT}") from error


def _cause_and_help(cause: str, path: Path) -> str:
    backup = "restore it from a backup (`taskpilot db backup` makes one)"
    advice = {
        "full": "free some space and try again",
        "readonly": "give us the right to write it",
        "malformed": backup,
        "not a database": backup,
    }
    for word, fix in advice.items():
        if word in cause:
            return f"{cause}: {fix}"
    if not path.exists():
        return f"the file is gone: put it back, or {backup}"
    with suppress(OSError):
        # A full disk is an I/O error to SQLite where the file that it shares with other processes cannot grow.
        if not os.statvfs(path).f_bavail:
            return f"the disk is full ({cause}): {advice['full']}"
    return f"{cause}: look at the disk and the rights of that folder"
