"""Whether the store can be read and written now, and whether the open file is still the one at its path."""

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from taskpilot.domain.errors import StoreError
from taskpilot.store.connections import connect
from taskpilot.store.database import Store
from taskpilot.store.errors import KEPT, file_errors, store_errors
from taskpilot.store.identity import Identity, check_identity, identity_of, log_of, remember


class Presence:
    """Checks a store that is open for long: a file or a log that was moved away can still be written, and the writes would be lost.

    It keeps a connection open, so SQLite itself does not delete or replace the log.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: Identity | None = None
        self._held: sqlite3.Connection | None = None

    def check(self) -> None:
        """Raises StoreError where the path has no file or another store, or file and log are not those that are in use.

        A backup of the same store is accepted where the former file's log is gone.
        """
        path, seen = self._store.path, self._seen
        now = identity_of(path)
        if now == seen:
            return
        if seen is not None and now.file == seen.file:
            if now.mark != seen.mark:
                raise StoreError(f"another file was copied over {path} while it was in use. {_STOPPED}", hint=_RESTORE)
            raise StoreError(
                f"the log {log_of(path).name} of {path} was removed or replaced while it was in use. {_STOPPED}", hint=_RESTART
            )
        self._store.dispose()
        with file_errors(path), store_errors(path):
            check_identity(path)
            held = connect(path)
            found = held.execute("SELECT store_id FROM store_info").fetchall()
        if found != [(self._store.store_id,)]:
            held.close()
            raise StoreError(f"the store {path} was replaced by another one. {KEPT}", hint="put it back, or restart")
        if self._held is not None:
            self._held.close()
        self._held, self._seen = held, identity_of(path)
        remember(path, self._seen)

    def close(self) -> None:
        """Closes its connection."""
        if self._held is not None:
            self._held.close()
        self._held = self._seen = None


_STOPPED: Final = "Nothing is started from here on."
_RESTORE: Final = "stop `taskpilot serve` and every run, then `taskpilot db restore FILE`"
_RESTART: Final = "stop `taskpilot serve` and every run, then start it again"
_ROOM_BYTES: Final = 65_536
"""What the folder, the log and the first rows of a run take."""


def check_room(folder: Path) -> None:
    """Writes a file without a name. Raises StoreError where the disk is full or read-only."""
    with file_errors(folder), TemporaryFile(dir=folder, buffering=0) as file:
        file.write(bytes(_ROOM_BYTES))


def probe(store: Store, *, busy_seconds: float) -> None:
    """Takes and releases the write lock. Raises StoreError (gone, read-only, damaged, another one) or StoreBusy (locked)."""
    path = store.path
    with store_errors(path), file_errors(path), closing(connect(path, busy_seconds)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN IMMEDIATE")
        try:
            _check_writable(connection)
            found = connection.execute("SELECT store_id FROM store_info").fetchone()
        finally:
            connection.execute("ROLLBACK")
    if found is None or found[0] != store.store_id:
        hint = f"restart `taskpilot serve`, or put the former {path.name} back"
        raise StoreError(f"{path} is another store than the one that was opened. {KEPT}", hint=hint)


def _check_writable(connection: sqlite3.Connection) -> None:
    """Changes a page: a lock is granted also on a file that is read-only for us, or on a read-only disk."""
    connection.execute("UPDATE store_info SET created_at = created_at")
