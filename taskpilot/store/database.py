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
from taskpilot.store.totals import CHANGES, Change

Transaction: TypeAlias = Connection
"""What `Store.write` and `Store.read` give, by a name that other rooms may say."""
Record: TypeAlias = Row[Any]
"""A row as it is in the store, with the columns that no domain object shows."""


class Store:
    """The record. Every write is one BEGIN IMMEDIATE transaction; errors are StoreError (74) or StoreBusy (75)."""

    def __init__(self, engine: Engine, path: Path, *, patience: BusyTimeout, store_id: str, deployment: str) -> None:
        self._engine = engine
        self._patience = patience
        self.path = path
        self.store_id = store_id
        self.deployment = deployment
        self.on_change: Callable[[frozenset[Change]], None] | None = None
        """Called after each commit that changed a job's ledger, with the jobs; in the thread that wrote, after the lock is given back."""
        self._held: set[Change] | None = None

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
        patience = BusyTimeout(busy_seconds)
        engine = make_engine(path, patience)
        try:
            with store_errors(path), file_errors(path):
                revision = revision_of(engine, path)
                if revision is None:
                    # Its creation goes on right now, or was killed before the schema was there.
                    create(path, busy_seconds)
                elif revision != tables.HEAD:
                    raise other_schema(path, revision)
                store_id, name = _identity(engine, deployment)
        except BaseException:
            engine.dispose()
            raise
        if deployment is not None and deployment != name:
            engine.dispose()
            raise ConfigurationError(
                f"the store {path} belongs to deployment {name!r}, not {deployment!r}",
                hint="unset TASKPILOT_DEPLOYMENT, or give another TASKPILOT_HOME",
            )
        return cls(engine, path, patience=patience, store_id=store_id, deployment=name)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that holds the write lock from its start; all of it is kept, or nothing."""
        changes: set[Change] = set()
        with store_errors(self.path), self._engine.connect() as connection:
            connection.execution_options(taskpilot_write=True, **{CHANGES: changes})
            with connection.begin():
                yield connection
        self._tell(changes)

    @contextmanager
    def held(self) -> Iterator[set[Change]]:
        """Collects the changes of this block and tells them at its end, all at once; what the block removes from the set is not told.

        For a process in which one thread writes: what other threads change meanwhile is held too.
        """
        if self._held is not None:
            yield self._held
            return
        held = self._held = set()
        try:
            yield held
        finally:
            self._held = None
            self._tell(held)

    def _tell(self, changes: set[Change]) -> None:
        if self._held is not None:
            self._held |= changes
        elif changes and self.on_change is not None:
            # The change is recorded: telling it may fail without consequence.
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
        """In a forked child: forgets the parent's pool without touching its connections, and waits for a lock so long from here on."""
        # The engine stays: with it come the statements that the parent has compiled, a quarter of the child's work.
        self._engine.dispose(close=False)
        self._patience.seconds = busy_seconds
        # The supervisor tells what the run changed, when the run has ended.
        self.on_change, self._held = None, None

    def checkpoint(self) -> None:
        """Writes the log back into the file as far as nobody is in the way; a moment in which nothing is due is the time for it."""
        with store_errors(self.path), self._engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Lets go of the file."""
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
        info = connection.execute(select(tables.store_info)).first() or _introduce(engine, deployment)
    return info.store_id, info.deployment


def _introduce(engine: Engine, deployment: str | None) -> Any:
    store_id = new_id()
    name = deployment or f"{socket.gethostname().split('.')[0]}-{store_id[-6:]}"
    with engine.connect() as connection:
        connection.execution_options(taskpilot_write=True)
        with connection.begin():
            if not connection.execute(select(func.count()).select_from(tables.store_info)).scalar():
                row = {"only": 1, "store_id": store_id, "deployment": name, "created_at": to_micros(utc_now())}
                connection.execute(insert(tables.store_info).values(row))
            return connection.execute(select(tables.store_info)).one()
