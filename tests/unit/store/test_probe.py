"""Whether the store could be used now: asked of the file, not of open connections."""

import sqlite3
from contextlib import closing

import pytest

from taskpilot.domain.errors import StoreBusy, StoreError
from taskpilot.store.database import Store
from taskpilot.store.probe import probe
from taskpilot.store.runs import count_running


def test_a_store_that_can_be_written_passes_and_stays_as_it_was(store: Store) -> None:
    before = store.path.read_bytes()
    probe(store, busy_seconds=0.1)
    assert store.path.read_bytes() == before


def test_a_store_that_is_locked_is_busy(store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            probe(store, busy_seconds=0.05)
    probe(store, busy_seconds=0.05)


def test_a_store_that_is_gone_is_said_to_be(store: Store) -> None:
    with store.read() as connection:
        assert count_running(connection) == 0
    store.path.rename(store.path.with_name("away.db"))
    with pytest.raises(StoreError, match="the file is gone"):
        probe(store, busy_seconds=0.05)


def test_a_store_that_is_damaged_is_said_to_be(store: Store) -> None:
    store.close()
    store.path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        probe(store, busy_seconds=0.05)


def test_a_connection_to_a_file_that_another_took_the_place_of_is_not_used(store: Store) -> None:
    """What is written to a file without a name nobody ever reads."""
    with closing(sqlite3.connect(store.path)) as source, closing(sqlite3.connect(store.path.with_name("copy.db"))) as copy:
        source.backup(copy)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE store_info SET created_at = 1")
    for companion in ("-wal", "-shm"):
        store.path.with_name(store.path.name + companion).unlink(missing_ok=True)
    store.path.with_name("copy.db").rename(store.path)
    with store.write() as connection:
        assert connection.exec_driver_sql("SELECT created_at FROM store_info").scalar() != 1
        connection.exec_driver_sql("UPDATE store_info SET created_at = 2")
    with closing(sqlite3.connect(store.path)) as other:
        assert other.execute("SELECT created_at FROM store_info").fetchone() == (2,)
