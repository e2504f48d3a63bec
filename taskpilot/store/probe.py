"""Whether the store could be read and written at this moment, asked of the file itself and not of connections that are open already."""

import sqlite3
from contextlib import closing
from pathlib import Path

from taskpilot.domain.errors import StoreError
from taskpilot.store.database import Store
from taskpilot.store.engine import connect
from taskpilot.store.refusals import KEPT, file_errors, store_errors


def probe(store: Store, *, busy_seconds: float) -> None:
    """Takes the write lock and gives it back. Raises StoreError (gone, read-only, damaged, another one) or StoreBusy (locked)."""
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
        raise StoreError(f"{path} is another store than the one that was opened: {_mend(path)}. {KEPT}")


def _check_writable(connection: sqlite3.Connection) -> None:
    """A lock is granted on a file that is read-only for us or on a read-only disk as well; a page that is made dirty is not."""
    connection.execute("UPDATE store_info SET created_at = created_at")


def _mend(path: Path) -> str:
    return f"restart `taskpilot serve`, or put the former {path.name} back"
