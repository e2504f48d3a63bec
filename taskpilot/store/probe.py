"""Whether the store can be read and written now, and whether the open file is still the one at its path."""

import os
import sqlite3
from contextlib import closing, suppress

from sqlalchemy import select

from taskpilot.domain.errors import StoreError
from taskpilot.store.connections import connect
from taskpilot.store.database import Store
from taskpilot.store.errors import KEPT, file_errors, store_errors
from taskpilot.store.tables import store_info


class Presence:
    """Checks a store that is open for long: a file that was moved away can still be written, and the writes would be lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: os.stat_result | None = None

    def check(self) -> None:
        """Raises StoreError where the path has no file or another store. A backup of the same store is accepted."""
        path = self._store.path
        with suppress(OSError):
            if self._seen is not None and os.path.samestat(self._seen, path.stat()):
                return
        self._store.dispose()
        with self._store.read() as connection, file_errors(path):
            found, seen = connection.execute(select(store_info.c.store_id)).scalar(), path.stat()
        if found != self._store.store_id:
            raise StoreError(f"the store {path} was replaced by another one. {KEPT}", hint="put it back, or restart")
        self._seen = seen


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
