"""Ids for a shell's Tab: the newest, in time, from a store that is left as it is."""

from pathlib import Path

import pytest

from taskpilot.cli import runs
from taskpilot.domain.runs import RESUMABLE, RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.store import completion_queries, connections
from taskpilot.store.database import Store
from tests import records


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "state")


def test_the_file_is_the_one_that_the_store_opens() -> None:
    assert completion_queries.FILE == connections.FILE


def test_the_states_that_a_resume_offers_are_those_that_it_takes() -> None:
    assert set(runs.RESUMED) == set(RESUMABLE)


def test_the_newest_come_first_and_hold_status_and_name(store: Store) -> None:
    made = [records.add_run(store) for _ in range(60)]
    task = records.add_task(store, made[0], status=TaskStatus.REVIEW)
    decision = records.add_decision(store, made[0])
    store.close()
    found = completion_queries.newest_ids(store.path.parent, "run")
    assert [one for one, _status, _name in found] == sorted(made, reverse=True)[:50]
    assert found[0][1:] == ("succeeded", "triage")
    assert [one[:2] for one in completion_queries.newest_ids(store.path.parent, "task")] == [(task, "review")]
    assert [one[0] for one in completion_queries.newest_ids(store.path.parent, "decision", statuses=("pending",))] == [decision]


def test_a_state_and_a_beginning_are_looked_for_in_all_rows(store: Store) -> None:
    old = records.add_run(store, status=RunStatus.WAITING)
    for _ in range(60):
        records.add_run(store)
    store.close()
    assert [one[0] for one in completion_queries.newest_ids(store.path.parent, "run", statuses=("waiting",))] == [old]
    assert [one[0] for one in completion_queries.newest_ids(store.path.parent, "run", begin=old)] == [old]
    assert completion_queries.newest_ids(store.path.parent, "run", begin="zz'; --") == []


def test_nobody_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(200):
        records.add_run(store)
    store.close()
    monkeypatch.setattr(completion_queries, "SECONDS", 0.0)
    monkeypatch.setattr(completion_queries, "_STEPS_BETWEEN_CHECKS", 1)
    assert completion_queries.newest_ids(store.path.parent, "run") == []


def test_no_store_is_made(tmp_path: Path) -> None:
    assert completion_queries.newest_ids(tmp_path, "run") == []
    assert list(tmp_path.iterdir()) == []
