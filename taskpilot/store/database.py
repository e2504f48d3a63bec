"""The store: one SQLite file in the state dir, checked before use; the only way to a transaction."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Any, Self, TypeAlias

from sqlalchemy import Connection, Engine, Row, func, insert, select

from taskpilot.domain.errors import ConfigurationError, StoreError
from taskpilot.domain.ids import new_id
from taskpilot.domain.times import to_micros, utc_now
from taskpilot.store import tables
from taskpilot.store.connections import FILE, BusyTimeout, make_engine
from taskpilot.store.creation import create, other_schema, prepare_state_dir, revision_of
from taskpilot.store.errors import KEPT, file_errors, store_errors
from taskpilot.store.identity import check_identity, identity_of, remember
from taskpilot.store.totals import CHANGES, Change

Transaction: TypeAlias = Connection
"""What `Store.write` and `Store.read` give, for other packages."""
Record: TypeAlias = Row[Any]
"""A row of the store, with columns that no domain object has."""


class Store:
    """The database. Every write is one BEGIN IMMEDIATE transaction; errors are StoreError (74) or StoreBusy (75)."""

    def __init__(self, engine: Engine, path: Path, *, busy_timeout: BusyTimeout, store_id: str, deployment: str) -> None:
        self._engine = engine
        self._busy_timeout = busy_timeout
        self.path = path
        self.store_id = store_id
        self.deployment = deployment
        self.on_change: Callable[[frozenset[Change]], None] | None = None
        """Called after each commit that changed a job's ledger, with the jobs; in the thread that wrote, without the lock."""
        self._deferred: set[Change] | None = None

    @classmethod
    def open(cls, state_dir: Path, deployment: str | None = None, *, busy_seconds: float = 5.0) -> Self:
        """The store of a state dir, made where there is none yet.

        Raises StoreError (unusable file or folder), StoreBusy (locked for longer than `busy_seconds`) or ConfigurationError
        (another deployment's name, or a schema that this version does not know).
        """
        path = state_dir / FILE
        with file_errors(path):
            prepare_state_dir(state_dir)
            if not path.exists() or path.stat().st_size == 0:
                create(path, busy_seconds)
            _check_file(path)
            check_identity(path)
        busy_timeout = BusyTimeout(busy_seconds)
        engine = make_engine(path, busy_timeout)
        try:
            with store_errors(path), file_errors(path):
                revision = revision_of(engine, path)
                if revision is None:
                    # It is being created, or its creation was killed before the schema was there.
                    create(path, busy_seconds)
                elif revision != tables.HEAD:
                    raise other_schema(path, revision)
                store_id, name = _identity(engine, deployment)
                remember(path, identity_of(path))
        except BaseException:
            engine.dispose()
            raise
        if deployment is not None and deployment != name:
            engine.dispose()
            raise ConfigurationError(
                f"the store {path} belongs to deployment {name!r}, not {deployment!r}",
                hint="unset TASKPILOT_DEPLOYMENT, or give another TASKPILOT_HOME",
            )
        return cls(engine, path, busy_timeout=busy_timeout, store_id=store_id, deployment=name)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that holds the write lock from its start; all of it is kept, or nothing."""
        changes: set[Change] = set()
        with store_errors(self.path), self._engine.connect() as connection:
            connection.execution_options(taskpilot_write=True, **{CHANGES: changes})
            with connection.begin():
                yield connection
        self._notify(changes)

    @contextmanager
    def deferred_changes(self) -> Iterator[set[Change]]:
        """Calls `on_change` once, at the end of this block, with its changes; not with those that the block removes from the set.

        For a process in which one thread writes: changes of other threads are deferred too.
        """
        if self._deferred is not None:
            yield self._deferred
            return
        deferred = self._deferred = set()
        try:
            yield deferred
        finally:
            self._deferred = None
            self._notify(deferred)

    def _notify(self, changes: set[Change]) -> None:
        if self._deferred is not None:
            self._deferred |= changes
        elif changes and self.on_change is not None:
            # The change is recorded: publishing it may fail without consequence.
            with suppress(Exception):
                self.on_change(frozenset(changes))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view."""
        with store_errors(self.path), self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        """Closes all connections; the next use opens new ones. Before a fork, so that none is shared."""
        self._engine.dispose()

    def after_fork(self, *, busy_seconds: float) -> None:
        """In a forked child: drops the parent's pool without closing its connections, and sets how long to wait for a lock."""
        # The engine stays, with the statements that the parent has compiled: a quarter of the child's work.
        self._engine.dispose(close=False)
        self._busy_timeout.seconds = busy_seconds
        # The supervisor publishes what the run changed, when the run has ended.
        self.on_change, self._deferred = None, None

    def checkpoint(self) -> None:
        """Writes the log back into the file as far as no reader blocks it; for a moment in which nothing is due."""
        with store_errors(self.path), self._engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Closes all connections for good."""
        self._engine.dispose()


def _check_file(path: Path) -> None:
    info = path.stat()
    if stat.S_IMODE(info.st_mode) & 0o077 and info.st_uid == os.geteuid():
        path.chmod(0o600)
    if not os.access(path, os.W_OK):
        raise StoreError(
            f"the store {path} is read-only for us. {KEPT}", hint=f"give us the right to write it: chmod u+w {quote(str(path))}"
        )


def _identity(engine: Engine, deployment: str | None) -> tuple[str, str]:
    with engine.connect() as connection:
        info = connection.execute(select(tables.store_info)).first() or _insert_identity(engine, deployment)
    return info.store_id, info.deployment


def _insert_identity(engine: Engine, deployment: str | None) -> Any:
    store_id = new_id()
    name = deployment or f"{socket.gethostname().split('.')[0]}-{store_id[-6:]}"
    with engine.connect() as connection:
        connection.execution_options(taskpilot_write=True)
        with connection.begin():
            if not connection.execute(select(func.count()).select_from(tables.store_info)).scalar():
                row = {"only": 1, "store_id": store_id, "deployment": name, "created_at": to_micros(utc_now())}
                connection.execute(insert(tables.store_info).values(row))
            return connection.execute(select(tables.store_info)).one()
