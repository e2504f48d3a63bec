"""Writes of several threads share commits, and an error reaches its own caller alone."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text
from sqlalchemy.exc import IntegrityError

from taskpilot.domain.errors import LeaseLost, StoreBusy
from taskpilot.store import tables
from taskpilot.store.connections import FILE
from taskpilot.store.database import Store
from taskpilot.store.group_commit import GroupCommit
from tests.acceptance.kills.processes import eventually


def adding(name: str) -> Callable[[Connection], str]:
    def write(connection: Connection) -> str:
        connection.execute(insert(tables.totals).values(job="triage", metric=name, labels="{}", value=1))
        return name

    return write


def names(store: Store) -> set[str]:
    with store.read() as connection:
        return set(connection.execute(text("SELECT metric FROM totals")).scalars())


class Group:
    """A group commit whose first transaction is held open until every other write of the test waits for it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.group = GroupCommit(store)
        self.commits = 0
        event.listen(store._engine, "commit", self._count)

    def _count(self, connection: Connection) -> None:
        self.commits += connection.get_execution_options().get("taskpilot_write", False)

    def together(self, *writes: Callable[[Connection], Any]) -> list[Future[Any]]:
        """What became of each write; all of them are in one transaction after that of the first thread."""
        entered, may_end = threading.Event(), threading.Event()

        def held(_connection: Connection) -> None:
            entered.set()
            assert may_end.wait(60)

        with ThreadPoolExecutor(len(writes) + 1) as pool:
            first = pool.submit(self.group.write, held)
            assert entered.wait(60)
            waiting = [pool.submit(self.group.write, write) for write in writes]
            assert eventually(lambda: len(self.group._waiting) == len(writes))
            may_end.set()
        first.result()
        return waiting


@pytest.fixture
def group(store: Store) -> Group:
    return Group(store)


def test_writes_that_wait_share_one_commit(group: Group) -> None:
    wanted = {f"n{number}" for number in range(30)}
    ended = group.together(*map(adding, sorted(wanted)))
    assert {one.result() for one in ended} == wanted == names(group.store)
    assert group.commits == 2


def test_an_error_undoes_its_own_write_alone(group: Group) -> None:
    def refused(connection: Connection) -> None:
        adding("refused")(connection)
        raise LeaseLost("another process has the run")

    first, error, last = group.together(adding("first"), refused, adding("last"))
    assert (first.result(), last.result()) == ("first", "last")
    with pytest.raises(LeaseLost, match="another process"):
        error.result()
    assert names(group.store) == {"first", "last"}


def test_a_write_that_is_refused_before_its_first_change_costs_no_further_commit(group: Group) -> None:
    def refused(_connection: Connection) -> None:
        raise LeaseLost("another process has the run")

    first, error, last = group.together(adding("first"), refused, adding("last"))
    assert (first.result(), last.result()) == ("first", "last")
    assert isinstance(error.exception(), LeaseLost)
    assert names(group.store) == {"first", "last"}
    assert group.commits == 2


def test_an_error_of_the_database_reaches_only_the_write_that_met_it(group: Group) -> None:
    ended = group.together(adding("once"), adding("other"), adding("once"))
    assert [one.exception() is None for one in ended] == [True, True, False]
    assert isinstance(ended[2].exception(), IntegrityError)
    assert names(group.store) == {"once", "other"}


def test_an_error_that_ends_the_transaction_loses_no_other_write(group: Group) -> None:
    def rolls_back(connection: Connection) -> None:
        # So does SQLite by itself after some errors, such as a full disk.
        connection.exec_driver_sql("ROLLBACK")
        adding("alone")(connection)
        connection.exec_driver_sql("SELECT no_such_function()")

    first, error, last = group.together(adding("first"), rolls_back, adding("last"))
    assert (first.result(), last.result()) == ("first", "last")
    assert error.exception() is not None
    assert names(group.store) >= {"first", "last"}


def test_a_locked_store_is_the_error_of_each_write(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "state", busy_seconds=0.2)
    group = Group(store)
    with closing(sqlite3.connect(tmp_path / "state" / FILE, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(5) as pool:
            ended = [pool.submit(group.group.write, adding(f"n{number}")) for number in range(5)]
        assert all(isinstance(one.exception(), StoreBusy) for one in ended)
        other.execute("ROLLBACK")
    assert group.group.write(adding("after")) == "after"
    assert names(store) == {"after"}
    store.close()


def test_a_signal_in_the_thread_that_commits_leaves_the_others_their_writes(group: Group) -> None:
    def interrupted(_connection: Connection) -> None:
        raise KeyboardInterrupt

    ended = group.together(interrupted, adding("second"), adding("third"))
    assert isinstance(ended[0].exception(), KeyboardInterrupt)
    assert [one.result() for one in ended[1:]] == ["second", "third"]
    assert names(group.store) == {"second", "third"}


def test_many_threads_write_at_once(group: Group) -> None:
    with ThreadPoolExecutor(50) as pool:
        ended = list(pool.map(lambda number: group.group.write(adding(f"n{number}")), range(500)))
    assert set(ended) == names(group.store)
    assert len(ended) == 500
    assert group.commits < 500
