"""The write part of the API: it does what the command line does, and leaves a row of each write, the refused ones too."""

import pytest

from taskpilot.domain.runs import RunStatus
from taskpilot.domain.tasks import TaskStatus
from tests.integration.web.serving import Served, awake
from tests.records import add_decision, add_run, add_task

NOBODY = "0192f0c1-0000-7000-8000-000000000000"


def test_a_run_that_is_asked_for_stands_in_the_queue(guarded: Served) -> None:
    asked = guarded.post("/api/v1/jobs/triage/run", {"parameters": {"wishes": "tea", "times": 3}, "model": "offline"})
    assert asked.status == 202
    answer = asked.json()
    run = guarded.get(answer["link"]).json()
    assert (run["status"], run["trigger"], run["model"]) == ("queued", "manual", "offline")
    assert run["parameters"] == {"wishes": "tea", "times": 3, "share": 0.5}
    assert guarded.deployment.queue.length() == 1
    assert guarded.stage.woken == 1
    assert guarded.audited() == [("api", "jobs.run", "triage", f"202 {answer['message']}")]


def test_a_run_needs_nothing_but_its_job(guarded: Served) -> None:
    assert guarded.post("/api/v1/jobs/triage/run").status == 202


@pytest.mark.parametrize(
    ("wanted", "status", "word"),
    [
        ({"parameters": {"nothing": 1}}, 422, "has no parameter"),
        ({"parameters": {"times": "many"}}, 422, "times"),
        ({"parameters": {"wishes": "\ud800"}}, 422, ""),
        ({"parameters": []}, 422, "parameters"),
        ({"model": ""}, 422, "model"),
        ({"model": "gpt-4o"}, 409, "OPENAI_API_KEY"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left_of_it(guarded: Served, wanted: object, status: int, word: str) -> None:
    refused = guarded.post("/api/v1/jobs/triage/run", wanted)
    assert refused.status == status, refused.body
    assert word in f"{refused.json()['detail']} {refused.json().get('hint', '')}"
    assert guarded.get("/api/v1/runs").json()["items"] == []
    assert [(action, answer[:3]) for _, action, _, answer in guarded.audited()] == [("jobs.run", str(status))]
    assert guarded.stage.woken == 0


def test_a_client_chooses_no_file_of_the_host(guarded: Served) -> None:
    for name in ("/etc/passwd", "-", "inbox.txt"):
        refused = guarded.post("/api/v1/jobs/reads/run", {"parameters": {"inbox": name}})
        assert refused.status == 422
        assert "names a file on the server" in refused.json()["detail"]
    assert not list(guarded.deployment.settings.state_dir.glob("runs/*"))
    own = guarded.post("/api/v1/jobs/reads/run").json()
    copied = guarded.get(own["link"]).json()["parameters"]["inbox"]
    assert copied.startswith(str(guarded.deployment.settings.state_dir))


def test_a_job_with_a_run_in_the_queue_gets_no_second_one(guarded: Served) -> None:
    awake(guarded.deployment)
    first = guarded.post("/api/v1/jobs/triage/run").json()["run_id"]
    refused = guarded.post("/api/v1/jobs/triage/run")
    assert refused.status == 409
    assert first in refused.json()["detail"]
    assert guarded.post(f"/api/v1/runs/{first}/cancel").status == 200
    assert guarded.post("/api/v1/jobs/triage/run").status == 202


def test_a_refused_run_leaves_no_copy_of_its_inputs(guarded: Served) -> None:
    assert guarded.post("/api/v1/jobs/reads/pause").status == 200
    assert guarded.post("/api/v1/jobs/reads/run").status == 409
    assert not list(guarded.deployment.settings.state_dir.glob("runs/*"))


def test_a_job_is_paused_and_resumed(guarded: Served) -> None:
    assert guarded.post("/api/v1/jobs/triage/pause", {"by": "anna", "note": "the tracker moves"}).status == 200
    paused = guarded.get("/api/v1/jobs/triage").json()["paused"]
    assert (paused["by"], paused["note"]) == ("anna", "the tracker moves")
    assert guarded.post("/api/v1/jobs/triage/pause").status == 409
    refused = guarded.post("/api/v1/jobs/triage/run")
    assert (refused.status, "by anna" in refused.json()["detail"]) == (409, True)
    assert guarded.post("/api/v1/jobs/triage/resume").status == 200
    assert guarded.post("/api/v1/jobs/triage/resume").status == 409
    assert guarded.get("/api/v1/jobs/triage").json()["paused"] is None


def test_a_run_is_cancelled_once(guarded: Served) -> None:
    run_id = guarded.post("/api/v1/jobs/triage/run").json()["run_id"]
    assert guarded.post(f"/api/v1/runs/{run_id}/cancel").status == 200
    assert guarded.get(f"/api/v1/runs/{run_id}").json()["status"] == "cancelled"
    assert guarded.post(f"/api/v1/runs/{run_id}/cancel").status == 409


def test_a_result_is_called_right_or_wrong(guarded: Served) -> None:
    run_id = add_run(guarded.deployment.store)
    assert guarded.get(f"/api/v1/runs/{run_id}").json()["feedback"] is None
    assert guarded.post(f"/api/v1/runs/{run_id}/feedback", {"verdict": "perhaps"}).status == 422
    assert guarded.post(f"/api/v1/runs/{run_id}/feedback").status == 422
    assert guarded.post(f"/api/v1/runs/{run_id}/feedback", {"verdict": "wrong", "by": "anna", "note": "no such account"}).status == 200
    said = guarded.get(f"/api/v1/runs/{run_id}").json()["feedback"]
    assert (said["verdict"], said["by"], said["note"]) == ("wrong", "anna", "no such account")
    waiting = add_run(guarded.deployment.store, status=RunStatus.WAITING, ended_at=None)
    assert guarded.post(f"/api/v1/runs/{waiting}/feedback", {"verdict": "correct"}).status == 409


def test_a_review_is_answered_and_its_run_goes_on(guarded: Served) -> None:
    awake(guarded.deployment)
    store = guarded.deployment.store
    run_id = add_run(store, status=RunStatus.WAITING, ended_at=None)
    first, second = (add_task(store, run_id, status=TaskStatus.REVIEW) for _ in range(2))
    assert guarded.post(f"/api/v1/tasks/{first}/approve", {"by": "anna", "note": "fine"}).status == 200
    assert guarded.get(f"/api/v1/runs/{run_id}").json()["status"] == "waiting"
    assert guarded.post(f"/api/v1/tasks/{second}/reject", {"by": "anna"}).status == 200
    assert guarded.get(f"/api/v1/runs/{run_id}").json()["status"] == "queued"
    assert guarded.get(f"/api/v1/tasks/{first}").json()["status"] == "approved"
    assert "by anna: fine" in guarded.get(f"/api/v1/tasks/{first}").json()["reason"]
    assert guarded.get(f"/api/v1/tasks/{second}").json()["status"] == "rejected"
    assert guarded.post(f"/api/v1/tasks/{second}/approve").status == 409


def test_a_call_is_approved_or_denied_once(guarded: Served) -> None:
    store = guarded.deployment.store
    run_id = add_run(store, status=RunStatus.WAITING, ended_at=None)
    yes, no = add_decision(store, run_id), add_decision(store, run_id)
    assert guarded.post(f"/api/v1/decisions/{yes}/approve", {"by": "anna"}).status == 200
    assert guarded.post(f"/api/v1/decisions/{no}/reject").status == 200
    assert guarded.post(f"/api/v1/decisions/{yes}/reject").status == 409
    settled = guarded.get(f"/api/v1/decisions/{yes}").json()
    assert (settled["status"], settled["settled_by"]) == ("approved", "anna")
    assert guarded.get(f"/api/v1/decisions/{no}").json()["settled_by"] == "api"


@pytest.mark.parametrize(
    "path",
    [
        "jobs/nothing/run",
        "jobs/nothing/pause",
        "jobs/nothing/resume",
        f"runs/{NOBODY}/cancel",
        f"tasks/{NOBODY}/approve",
        f"tasks/{NOBODY}/reject",
        f"decisions/{NOBODY}/approve",
        f"decisions/{NOBODY}/reject",
    ],
)
def test_what_is_not_there_is_not_found(guarded: Served, path: str) -> None:
    missing = guarded.post(f"/api/v1/{path}")
    assert missing.status == 404
    assert missing.headers["content-type"] == "application/problem+json"
    noun, subject, verb = path.split("/")
    assert guarded.audited() == [("api", f"{noun}.{verb}", subject, f"404 {missing.json()['detail']}")]


def test_a_job_whose_file_is_broken_is_a_conflict_with_its_reason(guarded: Served) -> None:
    (guarded.deployment.settings.jobs_dir / "late.py").write_text("def late(ctx):\n    return (\n")
    guarded.deployment.__dict__.pop("catalog", None)
    # The server loads changed files beside its requests.
    assert guarded.deployment.catalog.broken
    refused = guarded.post("/api/v1/jobs/late/run")
    assert refused.status == 409
    assert "late.py:2" in refused.json()["detail"]


def test_a_method_that_is_not_there_is_said_with_those_that_are(guarded: Served) -> None:
    refused = guarded.ask("DELETE", "/api/v1/runs", headers={"Authorization": "Bearer correct-horse"})
    assert (refused.status, refused.headers["allow"]) == (405, "GET")
    assert guarded.audited() == [("api", "DELETE", "/api/v1/runs", "405 Method Not Allowed")]


def test_what_cannot_be_recorded_is_not_done(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskpilot.domain.errors import StoreBusy

    def locked(*_args: object, **_named: object) -> str:
        raise StoreBusy("the store is locked by another process")

    with monkeypatch.context() as patched:
        patched.setattr("taskpilot.web.audit.insert_audit", locked)
        refused = guarded.post("/api/v1/jobs/triage/run")
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert guarded.get("/api/v1/runs").json()["items"] == []


def test_a_mistake_of_ours_is_said_without_its_inside_and_recorded(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_named: object) -> str:
        raise RuntimeError("an inner secret")

    with monkeypatch.context() as patched:
        patched.setattr("taskpilot.store.schedules.begin_pause", broken)
        failed = guarded.post("/api/v1/jobs/triage/pause")
    assert failed.status == 500
    assert b"secret" not in failed.body
    assert failed.headers["x-content-type-options"] == "nosniff"
    assert guarded.audited()[0][3].startswith("500 ")


def test_a_request_that_is_sent_again_with_its_key_acts_once(guarded: Served) -> None:
    run, key = "/api/v1/jobs/triage/run", {"Idempotency-Key": "7"}
    first = guarded.post(run, {"parameters": {"times": 2}}, headers=key)
    again = guarded.post(run, {"parameters": {"times": 2}}, headers=key)
    assert (again.status, again.json()) == (first.status, first.json()) == (202, first.json())
    assert guarded.post(run, {"parameters": {"times": 3}}, headers=key).status == 409
    assert len(guarded.get("/api/v1/runs").json()["items"]) == 1
    # The key of one request is not that of another.
    assert guarded.post(f"/api/v1/runs/{first.json()['run_id']}/cancel", headers=key).status == 200
    assert guarded.post(run, headers={"Idempotency-Key": "x" * 201}).status == 422
    # A refusal is an answer too; a new key tries again.
    assert guarded.post("/api/v1/jobs/triage/resume", headers=key).status == 409
    assert guarded.post("/api/v1/jobs/triage/pause").status == 200
    assert guarded.post("/api/v1/jobs/triage/resume", headers=key).status == 409
    assert guarded.post("/api/v1/jobs/triage/resume", headers={"Idempotency-Key": "8"}).status == 200
