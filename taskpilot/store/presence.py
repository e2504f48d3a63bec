"""Whether the store that is held open still stands at its path."""

import os
from contextlib import suppress

from sqlalchemy import select

from taskpilot.domain.errors import StoreError
from taskpilot.store.database import Store
from taskpilot.store.refusals import KEPT, file_errors
from taskpilot.store.tables import store_info


class Presence:
    """For who holds a store open for long: an open file that was moved away can be written for ever, and nobody would read it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: os.stat_result | None = None

    def check(self) -> None:
        """Raises StoreError while no file, or another store, stands there. A backup of the same store is gone on with."""
        path = self._store.path
        with suppress(OSError):
            if self._seen is not None and os.path.samestat(self._seen, path.stat()):
                return
        self._store.dispose()
        with self._store.read() as connection, file_errors(path):
            found, seen = connection.execute(select(store_info.c.store_id)).scalar(), path.stat()
        if found != self._store.store_id:
            raise StoreError(f"the store {path} was replaced by another one: put it back, or start anew. {KEPT}")
        self._seen = seen
