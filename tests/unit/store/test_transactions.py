"""Each write holds the lock from its start, and is kept whole or not at all."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event, text

from taskpilot.domain.errors import StoreBusy
from taskpilot.store import tables
from taskpilot.store.connections import FILE
from taskpilot.store.database import Store
from taskpilot.store.totals import Increment, add


def values(store: Store) -> dict[str, int]:
    with store.read() as connection:
        return {row.metric: row.value for row in connection.execute(tables.totals.select())}


def test_a_write_begins_immediate_and_a_read_does_not(store: Store) -> None:
    said: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda _c, _cursor, statement, *_rest: said.append(statement))
    with store.write() as connection:
        connection.execute(text("SELECT 1"))
    with store.read() as connection:
        connection.execute(text("SELECT 2"))
    assert said == ["BEGIN IMMEDIATE", "SELECT 1", "BEGIN", "SELECT 2"]


def test_a_write_holds_the_lock_before_it_wrote_anything(store: Store, state_dir: Path) -> None:
    with store.write(), closing(sqlite3.connect(state_dir / FILE, timeout=0.01, isolation_level=None)) as other:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        # And a reader is not kept waiting by it.
        assert other.execute("SELECT count(*) FROM totals").fetchone() == (0,)


def test_a_connection_that_read_first_writes_immediate_again(store: Store) -> None:
    """The pool gives the same connection to a read after a write: what one asked for must not stick to the next."""
    said: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda _c, _cursor, statement, *_rest: said.append(statement))
    for use in (store.write, store.read, store.write):
        with use() as connection:
            connection.execute(text("SELECT 1"))
    assert [statement for statement in said if statement.startswith("BEGIN")] == ["BEGIN IMMEDIATE", "BEGIN", "BEGIN IMMEDIATE"]


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    def fail_in_the_middle() -> None:
        with store.write() as connection:
            add(connection, "triage", [Increment("runs", "{}", 1)])
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail_in_the_middle()
    assert values(store) == {}


def test_a_read_sees_one_moment(store: Store) -> None:
    with store.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM totals")).scalar()
        with store.write() as other:
            add(other, "triage", [Increment("runs", "{}", 1)])
        assert connection.execute(text("SELECT count(*) FROM totals")).scalar() == before


@pytest.mark.real_creation
def test_commits_are_durable_and_references_are_checked(store: Store) -> None:
    with store.write() as connection:
        full = 2
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_eight_threads_that_read_and_then_write_lose_nothing(store: Store) -> None:
    """In a deferred transaction this fails at once, whatever the busy timeout."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(25):
                with store.write() as connection:
                    connection.execute(tables.totals.select()).all()
                    add(connection, "triage", [Increment("runs", "{}", 1)])
        except StoreBusy as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert values(store) == {"runs": 200}
