"""Pages of lists: the right rows in the right order, and an index for whatever is asked."""

from typing import Any

import pytest
from sqlalchemy import event

from taskpilot.domain.decisions import Verdict
from taskpilot.domain.tasks import TaskStatus
from taskpilot.store import listings
from taskpilot.store.database import Store
from taskpilot.store.listings import Page
from tests.records import add_decision, add_run, add_task, newest_first

ID = "0192f0c1-0000-7000-8000-000000000000"


def plans(store: Store, list_: Any, **asked: Any) -> str:
    """How SQLite would look for a page."""
    said: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        said.append((statement, parameters))

    event.listen(store._engine, "before_cursor_execute", note)
    with store.read() as connection:
        list_(connection, Page(50, ID), **asked)
        event.remove(store._engine, "before_cursor_execute", note)
        ((statement, parameters),) = [one for one in said if one[0].startswith("SELECT")]
        return " | ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))


@pytest.mark.parametrize(
    ("list_", "asked", "index"),
    [
        (listings.runs_page, {}, "autoindex_runs_1 (id<?)"),
        (listings.runs_page, {"job": "a"}, "runs_by_job (job=? AND id<?)"),
        (listings.runs_page, {"statuses": ["failed"]}, "runs_by_status (status=? AND id<?)"),
        (listings.runs_page, {"job": "a", "statuses": ["failed"]}, "runs_of_job_by_status (job=? AND status=? AND id<?)"),
        (listings.tasks_page, {}, "autoindex_tasks_1 (id<?)"),
        (listings.tasks_page, {"job": "a"}, "tasks_by_job (job=? AND id<?)"),
        (listings.tasks_page, {"statuses": ["review"]}, "tasks_by_status (status=? AND id<?)"),
        (listings.tasks_page, {"statuses": ["review", "failed"]}, "tasks_by_status (status=? AND id<?)"),
        (listings.tasks_page, {"job": "a", "statuses": ["review"]}, "tasks_of_job_by_status (job=? AND status=? AND id<?)"),
        (listings.tasks_page, {"job": "a", "statuses": ["review", "failed"]}, "tasks_of_job_by_status (job=? AND status=? AND id<?)"),
        (listings.tasks_page, {"run_id": ID, "statuses": ["executed", "failed"]}, "autoindex_tasks_2 (run_id=?)"),
        (listings.decisions_page, {"job": "a"}, "decisions_by_job (job=? AND id<?)"),
        (listings.decisions_page, {"statuses": ["pending"]}, "decisions_by_status (status=? AND id<?)"),
        (listings.decisions_page, {"verdict": "deny"}, "decisions_by_verdict (verdict=? AND id<?)"),
        (listings.decisions_page, {"run_id": ID, "statuses": ["final"], "verdict": "allow"}, "decisions_by_run (run_id=?)"),
    ],
)
def test_every_page_has_its_index(store: Store, list_: Any, asked: dict[str, Any], index: str) -> None:
    plan = plans(store, list_, **asked)
    assert index in plan
    assert "SCAN tasks" not in plan


def test_several_states_are_one_list_by_age_and_its_pages_meet(store: Store) -> None:
    run_id = add_run(store)
    states = [TaskStatus.REVIEW, TaskStatus.FAILED, TaskStatus.EXECUTED] * 4
    ids = [add_task(store, run_id, status=status) for status in states]
    wanted = newest_first(one for one, status in zip(ids, states, strict=True) if status is not TaskStatus.EXECUTED)
    found: list[str] = []
    with store.read() as connection:
        while True:
            before = found[-1] if found else None
            page = listings.tasks_page(connection, Page(3, before), job="triage", statuses=["review", "failed", "review"])
            if not page:
                break
            found += [task.id for task in page]
    assert found == wanted


def test_filters_beside_a_run_hold(store: Store) -> None:
    one, other = add_run(store), add_run(store)
    denied = add_decision(store, one, verdict=Verdict.DENY)
    add_decision(store, one)
    add_decision(store, other, verdict=Verdict.DENY)
    with store.read() as connection:
        found = listings.decisions_page(connection, Page(), run_id=one, job="triage", statuses=["final"], verdict="deny")
    assert [decision.id for decision in found] == [denied]
