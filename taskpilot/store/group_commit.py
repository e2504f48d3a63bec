"""Writes of several threads that share transactions: a commit costs a disk flush, however many writes it holds."""

import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from taskpilot.domain.errors import Stop, StoreBusy, StoreError, Terminated
from taskpilot.store.database import Store
from taskpilot.store.prepared import rows_changed

Result = TypeVar("Result")
_MOST: Final = 128
"""Writes in one transaction; other processes wait until it has been committed."""


class _HalfDone(Exception):
    """A write changed rows, then raised: the whole transaction is undone."""


class _Write:
    """One thread's write: what it does, and what became of it."""

    def __init__(self, function: Callable[[Connection], Any]) -> None:
        self.function = function
        self.wake = threading.Event()
        """Set when the write is done, or when its thread is to commit the next transaction."""
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, connection: Connection) -> None:
        """Runs the write in the current transaction."""
        self.result, self.error = self.function(connection), None


class GroupCommit:
    """The writes of this process's threads, in the order in which they came.

    The first thread commits its own write. What arrives while a commit is under way is committed together by one of the threads that
    wait; so one connection of the process competes for the file's lock, and no thread holds a lock of this process over a transaction.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: list[_Write] = []
        self._committing = False

    def write(self, function: Callable[[Connection], Result]) -> Result:
        """What the function gave, after the transaction with its writes was committed.

        Where the function raises, nothing of it is recorded, and the error reaches its own caller alone. It may be called a second time:
        after an error of the database, or of a write that had changed rows, the writes of one transaction are repeated one by one.
        Raises StoreError or StoreBusy.
        """
        mine = _Write(function)
        with self._lock:
            self._waiting.append(mine)
            commits, self._committing = not self._committing, True
        if not commits:
            self._wait(mine)
        if not mine.done:
            try:
                self._commit_next(mine)
            finally:
                self._pass_on()
        if mine.error is not None:
            raise mine.error
        result: Result = mine.result
        return result

    def _wait(self, mine: _Write) -> None:
        try:
            mine.wake.wait()
        except BaseException:
            # A signal ends the main thread's wait: its write is withdrawn unless it is being committed.
            with self._lock:
                if mine in self._waiting:
                    self._waiting.remove(mine)
            if mine.wake.is_set() and not mine.done:
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Lets the next waiting thread commit."""
        with self._lock:
            self._committing = bool(self._waiting)
            if self._waiting:
                self._waiting[0].wake.set()

    def _commit_next(self, mine: _Write) -> None:
        """Commits what waits, `mine` first."""
        with self._lock:
            group, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        try:
            self._commit(group)
        except BaseException:
            # A signal ended it in the main thread: the other writes are for another thread.
            with self._lock:
                self._waiting[:0] = [write for write in group if write is not mine]
            raise
        for write in group:
            write.done = True
            write.wake.set()

    def _commit(self, group: list[_Write]) -> None:
        if len(group) == 1:
            self._commit_one(group[0])
            return
        try:
            self._commit_together(group)
        except StoreBusy as error:
            # Each has waited as long as a write may.
            for write in group:
                write.error = error
        except (_HalfDone, StoreError, DBAPIError, sqlite3.Error):
            for write in group:
                self._commit_one(write)

    def _commit_one(self, write: _Write) -> None:
        try:
            with self._store.write() as connection:
                write.run(connection)
        except (Exception, Stop) as error:
            write.error = error

    def _commit_together(self, group: list[_Write]) -> None:
        with self._store.write() as connection:
            changes = rows_changed(connection)
            for write in group:
                try:
                    write.run(connection)
                except (DBAPIError, sqlite3.Error, StoreError, StoreBusy, Terminated):
                    # SQLite may have ended the transaction with its error; a signal is for this thread, not for the write.
                    raise
                except (Exception, Stop) as error:
                    if rows_changed(connection) != changes:
                        raise _HalfDone from error
                    # A refusal comes before the first change, as a rule: nothing is to be undone.
                    write.error = error
                changes = rows_changed(connection)
