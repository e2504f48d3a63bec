"""Which record a person means: a whole id, its end, the newest one, the newest one of a job."""

from pathlib import Path

import pytest

from taskpilot.domain.errors import NotFound, UsageError
from taskpilot.domain.ids import short_id
from taskpilot.store.database import Store
from taskpilot.store.ids import find_id
from tests import records


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "state")


def found(store: Store, text: str, *, noun: str = "run", of_run: str | None = None) -> str:
    with store.read() as connection:
        return find_id(connection, text, noun=noun, of_run=of_run)


def test_the_end_of_an_id_is_enough_for_each_kind_of_record(store: Store) -> None:
    run_id = records.add_run(store)
    task_id, decision_id = records.add_task(store, run_id), records.add_decision(store, run_id)
    for noun, whole in (("run", run_id), ("task", task_id), ("decision", decision_id)):
        for text in (short_id(whole), short_id(whole).upper(), whole[-13:], whole[-12:], whole[1:], whole.replace("-", "")[2:], whole):
            assert found(store, text, noun=noun) == whole


def test_an_ending_of_several_lists_them_all_and_chooses_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = "01a214c3-89db-74c5-a15f-6e1a7f732632", "01a214c4-89db-74c5-a15f-6e1b7f732632"
    made = iter([one, "attempt-1", other, "attempt-2"])
    monkeypatch.setattr(records, "new_id", lambda: next(made))
    records.add_run(store)
    records.add_run(store)
    with pytest.raises(UsageError, match="2 runs have an id that ends with 7f732632") as caught:
        found(store, "7f732632")
    assert one in str(caught.value)
    assert other in str(caught.value)
    assert found(store, "6e1b7f732632") == other
    assert found(store, "5f-6e1a7f732632") == one


def test_last_is_the_newest_one_of_all_or_of_a_job(store: Store) -> None:
    with pytest.raises(NotFound, match="there is no run yet"):
        found(store, "last")
    digest = records.add_run(store, job="digest")
    newest = max(records.add_run(store), records.add_run(store))
    assert found(store, "last") == newest
    assert found(store, "digest:last") == digest
    with pytest.raises(NotFound, match="there is no run of other"):
        found(store, "other:last")
    old = records.add_task(store, digest)
    records.add_task(store, newest)
    assert found(store, "last", noun="task", of_run=digest) == old


@pytest.mark.parametrize("text", ["", "f732632", "zzzzzzzz", "' OR 1=1 --", "%", "Last", "a:b:last", "01a214c3-89db-74c5-a15f-6e1a7f73263"])
def test_what_is_no_id_is_refused_with_what_is_taken(store: Store, text: str) -> None:
    records.add_run(store)
    with pytest.raises((UsageError, NotFound)) as caught:
        found(store, text)
    assert caught.value.hint == "taskpilot runs list"


def test_a_million_runs_would_not_be_searched_one_by_one(store: Store) -> None:
    with store.read() as connection:
        plan = connection.exec_driver_sql("EXPLAIN QUERY PLAN SELECT id FROM runs WHERE substr(runs.id, 29) = ?", ("7f732632",))
        assert "runs_by_ending" in " ".join(row[3] for row in plan)
