"""The read part of the API: pages by key, filters, and one shape for what is refused."""

from datetime import timedelta
from typing import Any

import pytest

from taskpilot.domain.decisions import Verdict
from taskpilot.domain.fires import Fire, Gap
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.store.fires import insert_fires, insert_gap
from tests.integration.web.serving import Served
from tests.records import NOON, add_decision, add_run, add_task, newest_first

NOBODY = "0192f0c1-0000-7000-8000-000000000000"


def every(served: Served, path: str) -> list[dict[str, Any]]:
    """All items of a list, by following `next`."""
    found: list[dict[str, Any]] = []
    following: str | None = path
    while following is not None:
        reply = served.get(following)
        assert reply.status == 200, reply.body
        page = reply.json()
        found += page["items"]
        following = page["next"]
    return found


def test_the_root_says_who_answers_and_its_links_lead_somewhere(served: Served) -> None:
    info = served.get("/").json()
    assert info["name"] == "taskpilot"
    assert info["deployment"] == served.deployment.store.deployment
    for link in info["links"].values():
        assert served.get(link).status == 200, link


def test_jobs_come_by_name_with_what_they_are_due_for(served: Served) -> None:
    assert [job["job"] for job in every(served, "/api/v1/jobs?limit=1")] == ["reads", "triage"]
    job = served.get("/api/v1/jobs/triage").json()
    assert job["next_fire"].endswith("Z")
    assert [one["name"] for one in job["parameters"]] == ["wishes", "times", "share"]
    assert served.get("/api/v1/jobs/nothing").status == 404


def test_a_broken_file_hides_no_job(served: Served) -> None:
    (served.deployment.settings.jobs_dir / "late.py").write_text("def late(ctx):\n    return (\n")
    served.deployment.__dict__.pop("catalog", None)
    listed = served.get("/api/v1/jobs").json()
    assert len(listed["items"]) == 2
    assert "late.py:2" in listed["broken"][0]
    assert served.get("/api/v1/jobs/late").status == 409


def test_runs_come_a_page_at_a_time_and_none_twice(served: Served) -> None:
    ids = [add_run(served.deployment.store) for _ in range(7)]
    add_run(served.deployment.store, job="reads")
    add_run(served.deployment.store, status=RunStatus.FAILED)
    found = every(served, "/api/v1/runs?job=triage&status=succeeded&limit=3")
    assert [run["run_id"] for run in found] == newest_first(ids)
    assert len(every(served, "/api/v1/runs?limit=2")) == 9
    assert [run["job"] for run in every(served, "/api/v1/runs?job=reads")] == ["reads"]


def test_one_run_comes_with_all_that_belongs_to_it(served: Served) -> None:
    run_id = add_run(served.deployment.store, status=RunStatus.WAITING)
    task_id = add_task(served.deployment.store, run_id, title="<script>alert(1)</script>")
    decision_id = add_decision(served.deployment.store, run_id)
    run = served.get(f"/api/v1/runs/{run_id}").json()
    assert run["cost_usd"] == pytest.approx(0.00202)
    assert [task["task_id"] for task in run["tasks"]] == [task_id]
    assert [one["decision_id"] for one in run["pending_decisions"]] == [decision_id]
    assert len(run["attempt_list"]) == 1


def test_tasks_and_decisions_have_the_filters_of_the_command_line(served: Served) -> None:
    store = served.deployment.store
    one, other = add_run(store), add_run(store)
    review, rejected = (add_task(store, one, status=status) for status in (TaskStatus.REVIEW, TaskStatus.REJECTED))
    executed = add_task(store, other)
    assert [task["task_id"] for task in every(served, "/api/v1/tasks?limit=1")] == newest_first([executed, rejected, review])
    both = every(served, "/api/v1/tasks?status=review&status=rejected&limit=1")
    assert [task["task_id"] for task in both] == newest_first([rejected, review])
    assert [task["task_id"] for task in every(served, f"/api/v1/tasks?run={other}&job=triage")] == [executed]
    assert served.get(f"/api/v1/tasks/{review}").json()["status"] == "review"
    asked, denied = add_decision(store, one), add_decision(store, other, verdict=Verdict.DENY)
    assert [each["decision_id"] for each in every(served, "/api/v1/decisions?limit=1")] == newest_first([denied, asked])
    assert [each["decision_id"] for each in every(served, "/api/v1/decisions?status=pending")] == [asked]
    assert [each["decision_id"] for each in every(served, f"/api/v1/decisions?verdict=deny&run={other}")] == [denied]
    assert served.get(f"/api/v1/decisions/{asked}").json()["arguments"] == {"title": "x"}


def test_fires_and_gaps_are_one_list_in_the_order_of_time(served: Served) -> None:
    minute = timedelta(minutes=1)
    with served.deployment.store.write() as connection:
        rows = [Fire("triage", NOON + minute * at, FireOutcome.STARTED, NOBODY, NO_REASON, NOON) for at in (0, 1, 200)]
        insert_fires(connection, rows)
        gap = Gap(
            "triage", NOON + 2 * minute, NOON + 100 * minute, 99, FireOutcome.MISSED, Reason(ReasonCode.NOBODY_CLAIMED), "every 1m", NOON
        )
        insert_gap(connection, gap)
    for limit in (1, 2, 50):
        found = every(served, f"/api/v1/jobs/triage/fires?limit={limit}")
        assert [(fire["outcome"], fire["count"]) for fire in found] == [("started", 1), ("missed", 99), ("started", 1), ("started", 1)]
    assert (found[1]["first"], found[1]["scheduled_for"]) == ("2026-11-23T12:02:00.000000Z", "2026-11-23T13:40:00.000000Z")
    assert found[1]["reason"] == "no scheduler was running, and no command started it"
    assert (found[1]["reason_code"], found[1]["reason_facts"]) == ("nobody_claimed", {})
    for wrong in ("yesterday", "7", "2026-12-24T08:00"):
        assert served.get(f"/api/v1/jobs/triage/fires?before={wrong}").status == 422


@pytest.mark.parametrize("path", [f"runs/{NOBODY}", f"tasks/{NOBODY}", f"decisions/{NOBODY}", "jobs/nothing"])
def test_what_is_not_there_is_a_problem(served: Served, path: str) -> None:
    missing = served.get(f"/api/v1/{path}")
    assert missing.status == 404
    assert missing.headers["content-type"] == "application/problem+json"
    assert set(missing.json()) == {"status", "title", "detail", "hint"}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "before=x", "status=nothing", "job=A", "job=%00"])
def test_what_does_not_fit_is_a_problem(served: Served, query: str) -> None:
    refused = served.get(f"/api/v1/runs?{query}")
    assert refused.status == 422
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_record_is_named_by_the_end_of_its_id_or_as_the_last_one(served: Served) -> None:
    run_id = add_run(served.deployment.store)
    task_id = add_task(served.deployment.store, run_id)
    for name in (run_id, run_id[-8:], "last", "triage:last"):
        assert served.get(f"/api/v1/runs/{name}").json()["run_id"] == run_id
        assert [one["task_id"] for one in served.get(f"/api/v1/tasks?run={name}").json()["items"]] == [task_id]
    assert served.get(f"/api/v1/tasks/{task_id[-8:]}").json()["task_id"] == task_id
    assert served.get("/api/v1/runs/00000000").status == 404
    assert served.get("/api/v1/runs/nothing").status == 422


def test_runs_are_filtered_by_several_states_and_by_time(served: Served) -> None:
    failed, lost = (add_run(served.deployment.store, status=status) for status in (RunStatus.FAILED, RunStatus.LOST))
    add_run(served.deployment.store)
    two = "/api/v1/runs?status=failed&status=lost"
    assert [run["run_id"] for run in every(served, f"{two}&limit=1")] == newest_first([failed, lost])
    assert every(served, f"{two}&since=2026-11-23T12:00:00Z") == every(served, two)
    assert every(served, f"{two}&since=2026-11-23T12:00:01Z") == every(served, f"{two}&until=2026-11-23T12:00:00Z") == []
