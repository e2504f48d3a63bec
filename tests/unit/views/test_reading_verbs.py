"""The verbs that read: lists, waterfalls, exports, logs."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import DecisionStatus, Verdict
from taskpilot.domain.errors import StoreError, UsageError
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.store.listings import Page
from taskpilot.views.runs import list_runs, run_log
from taskpilot.views.tasks import export_tasks
from taskpilot.views.traces import trace_of
from tests import records
from tests.errors import saying


def test_a_waterfall_puts_each_step_below_its_agent(deployment: Deployment) -> None:
    run_id = records.add_run(deployment.store)
    for item in ("0", "1"):
        records.add_agent(deployment.store, run_id, "planner", f"/map.0/{item}/workflow.0/planner.0")
        records.add_agent(deployment.store, run_id, "executor", f"/map.0/{item}/workflow.0/task.0/executor.0")
        records.add_step(
            deployment.store, run_id, scope=f"/map.0/{item}/workflow.0/planner.0", kind=StepKind.ASK, status=StepStatus.SUCCEEDED
        )
        records.add_step(
            deployment.store,
            run_id,
            scope=f"/map.0/{item}/workflow.0/task.0/executor.0/tools.0",
            name=f"call{item}",
            started_at=records.NOON + timedelta(seconds=0.5),
        )
    records.add_step(
        deployment.store, run_id, scope="", kind=StepKind.STEP, name="read_inbox", started_at=records.NOON - timedelta(seconds=1)
    )
    _run, lines = trace_of(deployment, run_id)
    assert [(line.depth, line.name) for line in lines if line.depth < 2][:2] == [(0, "attempt 1"), (1, "step read_inbox")]
    for position, line in enumerate(lines):
        if line.name.startswith("tool call"):
            assert line.depth == 2
            assert lines[position - 1].name == "executor"
        if line.name.startswith("chat"):
            assert lines[position - 1].name == "planner"
    assert len(lines) == 10


def test_a_scope_that_only_begins_alike_is_not_inside(deployment: Deployment) -> None:
    run_id = records.add_run(deployment.store)
    records.add_agent(deployment.store, run_id, "planner", "/workflow.0/planner.1")
    records.add_step(deployment.store, run_id, scope="/workflow.0/planner.10", name="elsewhere")
    _run, lines = trace_of(deployment, run_id)
    assert {line.name: line.depth for line in lines} == {"attempt 1": 0, "planner": 1, "tool elsewhere": 1}


def test_the_agents_of_one_request_stand_together_however_many_run_at_once(deployment: Deployment) -> None:
    run_id = records.add_run(deployment.store)
    for agent, place in (("planner", "planner.0"), ("reviewer", "task.0/reviewer.0")):
        for item in ("0", "1"):
            records.add_agent(deployment.store, run_id, f"{agent}{item}", f"/map.0[{item}]/workflow.0/{place}")
    _run, lines = trace_of(deployment, run_id)
    assert [line.name for line in lines] == ["attempt 1", "planner0", "reviewer0", "planner1", "reviewer1"]


def test_a_decision_stands_beside_its_call_with_the_answer_of_a_person(deployment: Deployment) -> None:
    run_id = records.add_run(deployment.store)
    scope = "/workflow.0/executor.0"
    records.add_agent(deployment.store, run_id, "executor", scope)
    records.add_step(deployment.store, run_id, scope=scope, name="create_task", key="the key")
    records.add_decision(deployment.store, run_id, step_key="the key", status=DecisionStatus.APPROVED)
    records.add_decision(deployment.store, run_id, tool="notify", verdict=Verdict.DENY, status=DecisionStatus.FINAL)
    records.add_decision(deployment.store, run_id, tool="later", verdict=Verdict.DENY, decided_at=records.NOON + timedelta(days=1))
    _run, lines = trace_of(deployment, run_id)
    assert [(line.depth, line.name, line.status, line.detail) for line in lines] == [
        (0, "attempt 1", "succeeded", ""),
        (1, "policy notify", "deny", ""),
        (1, "executor", "succeeded", ""),
        (2, "policy create_task", "require_approval", "approved"),
        (2, "tool create_task", "unknown", ""),
    ]


def test_the_export_is_whole_private_and_in_the_order_of_birth(deployment: Deployment, tmp_path: Path) -> None:
    run_id = records.add_run(deployment.store)
    made = [records.add_task(deployment.store, run_id, title=title) for title in ("one", "zwei \u00fc", "drei \u202e")]
    path, number = export_tasks(deployment)
    assert path == deployment.settings.state_dir / ".tasks.json"
    assert number == 3
    assert path.stat().st_mode & 0o777 == 0o600
    assert [task["task_id"] for task in json.loads(path.read_text())] == made
    export_tasks(deployment)
    assert sorted(one.name for one in path.parent.iterdir() if "part" in one.name) == []
    elsewhere, _ = export_tasks(deployment, tmp_path / "mine.json")
    assert elsewhere.read_bytes() == path.read_bytes()
    with pytest.raises(UsageError, check=saying("--output")):
        export_tasks(deployment, tmp_path / "missing" / "mine.json")


def test_an_export_that_fails_leaves_the_old_one(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = export_tasks(deployment)
    before = path.read_bytes()
    records.add_task(deployment.store, records.add_run(deployment.store))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        export_tasks(deployment)
    assert path.read_bytes() == before
    assert not [one for one in path.parent.iterdir() if "part" in one.name]


def test_a_log_of_anything_is_read(deployment: Deployment) -> None:
    run_id = records.add_run(deployment.store)
    assert list(run_log(deployment, run_id)) == []
    folder = deployment.run_dir(run_id)
    folder.mkdir(parents=True)
    (folder / "run.log").write_bytes(
        b'{"@timestamp": 5, "log.level": null, "message": ["x"]}\n{"log": {"level": "info"}}\nno JSON \xff\n\n7\n'
    )
    lines = list(run_log(deployment, run_id))
    assert [line.level for line in lines] == ["", "info", "", "", ""]
    assert lines[2].message == "no JSON \\xff"


def test_a_fifo_in_the_place_of_a_log_hangs_nobody(deployment: Deployment) -> None:
    run_id = records.add_run(deployment.store)
    folder = deployment.run_dir(run_id)
    folder.mkdir(parents=True)
    os.mkfifo(folder / "run.log")
    assert list(run_log(deployment, run_id)) == []
    (folder / "output.log").mkdir()
    from taskpilot.views.runs import run_output

    with pytest.raises((StoreError, OSError)):
        list(run_output(deployment, run_id))


def test_a_page_before_what_is_no_id_is_refused(deployment: Deployment) -> None:
    with pytest.raises(UsageError, match="not a run id"):
        list_runs(deployment, Page(5, "'; DROP TABLE runs"))
