"""After a commit that changed a job's ledger, one callback is told of it: nobody has to remember to publish."""

from contextlib import suppress

import pytest

from taskpilot.store import totals
from taskpilot.store.database import Store
from taskpilot.store.totals import Change


@pytest.fixture
def told(store: Store) -> list[frozenset[Change]]:
    found: list[frozenset[Change]] = []
    store.on_change = found.append
    return found


def test_a_commit_tells_each_job_that_it_marked_once(store: Store, told: list[frozenset[Change]]) -> None:
    with store.write() as connection:
        totals.mark_dirty(connection, "triage")
        totals.mark_dirty(connection, "triage")
        totals.set_state(connection, "digest", ended_run="r1", last_status="failed")
        assert told == []
    assert told == [frozenset({Change("triage"), Change("digest", "r1")})]


def test_a_transaction_that_changes_no_ledger_or_fails_tells_nothing(store: Store, told: list[frozenset[Change]]) -> None:
    with store.write() as connection:
        totals.add(connection, "triage", [])
    with suppress(KeyError), store.write() as connection:
        totals.mark_dirty(connection, "triage")
        raise KeyError
    assert told == []


def test_a_failure_of_who_is_told_changes_nothing(store: Store) -> None:
    def fails(_changes: frozenset[Change]) -> None:
        raise OSError

    store.on_change = fails
    with store.write() as connection:
        totals.mark_dirty(connection, "triage")
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT version FROM job_state").scalar() == 1


def test_changes_that_are_held_are_told_together_and_what_is_taken_out_is_not_told(store: Store, told: list[frozenset[Change]]) -> None:
    with store.deferred_changes() as changes:
        for job in ("triage", "digest"):
            with store.write() as connection:
                totals.mark_dirty(connection, job)
        with store.deferred_changes() as same:
            same.discard(Change("digest"))
        assert changes == {Change("triage")}
        assert told == []
    assert told == [frozenset({Change("triage")})]


def test_the_process_of_a_job_tells_nothing(store: Store, told: list[frozenset[Change]]) -> None:
    store.after_fork(busy_seconds=5.0)
    with store.write() as connection:
        totals.mark_dirty(connection, "triage")
    assert told == []
