"""Steps, logs, artifacts and results of runs are for those who hold the token; rerun and resume go through the queue."""

from taskpilot.domain.runs import RunStatus
from tests.integration.web.serving import TOKEN, Served
from tests.records import add_run, add_step

BEARER = {"Authorization": f"Bearer {TOKEN}"}
CONTENTS = ("steps", "logs", "logs?output=true", "artifacts", "artifacts/report.md")


def with_files(served: Served, **run: object) -> str:
    run_id = add_run(served.deployment.store, **run)  # type: ignore[arg-type]
    add_step(served.deployment.store, run_id, input={"prompt": "secret plans"})
    folder = served.deployment.make_run_dir(run_id) / "artifacts"
    folder.mkdir()
    (folder / "report.md").write_text("secret plans")
    (folder.parent / "run.log").write_text('{"@timestamp": "2026-11-23T12:00:00Z", "log.level": "info", "message": "secret plans"}\n')
    (folder.parent / "output.log").write_text("secret plans\n")
    return run_id


def test_without_the_token_nobody_on_this_machine_reads_what_is_in_a_run(guarded: Served) -> None:
    run_id = with_files(guarded, status=RunStatus.WAITING, result="secret plans")
    for path in CONTENTS:
        refused = guarded.get(f"/api/v1/runs/{run_id}/{path}")
        assert refused.status == 401, path
        assert "www-authenticate" in refused.headers
        assert guarded.ask("HEAD", f"/api/v1/runs/{run_id}/{path}").status == 401
        assert guarded.get(f"/api/v1/runs/{run_id}/{path}", Authorization="Bearer guessed").status == 401
        assert b"secret plans" in guarded.get(f"/api/v1/runs/{run_id}/{path}", **BEARER).body or path == "artifacts"
    for path in (f"/api/v1/runs/{run_id}", "/api/v1/runs"):
        assert b"secret plans" not in guarded.get(path).body
        assert b'"secret plans"' in guarded.get(path, **BEARER).body


def test_steps_come_a_page_at_a_time_and_artifacts_as_files(guarded: Served) -> None:
    run_id = with_files(guarded)
    more = [add_step(guarded.deployment.store, run_id, input={"n": n}, position=n) for n in (1, 2)]
    first = guarded.get(f"/api/v1/runs/{run_id[-8:]}/steps?limit=2", **BEARER).json()
    assert [step["input"] for step in first["items"]] == [{"prompt": "secret plans"}, {"n": 1}]
    assert [step["id"] for step in guarded.get(first["next"], **BEARER).json()["items"]] == [more[1]]
    (artifact,) = guarded.get("/api/v1/runs/last/artifacts", **BEARER).json()["items"]
    assert (artifact["name"], artifact["bytes"]) == ("report.md", 12)
    file = guarded.get("/api/v1/runs/last/artifacts/report.md", **BEARER)
    assert file.headers["content-disposition"] == "attachment; filename*=UTF-8''report.md"
    assert file.headers["x-content-type-options"] == "nosniff"
    for name in ("..%2F..%2Frun.log", "run.log", "%00"):
        assert guarded.get(f"/api/v1/runs/last/artifacts/{name}", **BEARER).status == 404


def test_a_rerun_is_a_new_queued_run_with_the_same_parameters(guarded: Served) -> None:
    old = add_run(guarded.deployment.store, parameters='{"wishes":"tea","times":2,"share":0.5}', model="offline")
    queued = guarded.post(f"/api/v1/runs/{old[-8:]}/rerun")
    assert queued.status == 202
    assert queued.json()["run_id"] != old
    new = guarded.get(queued.json()["link"]).json()
    assert (new["status"], new["parameters"], new["model"]) == ("queued", {"wishes": "tea", "times": 2, "share": 0.5}, "offline")
    assert guarded.stage.woken == 1
    assert guarded.post("/api/v1/runs/00000000/rerun").status == 404
    assert guarded.post(f"/api/v1/runs/{old}/rerun", token="guessed").status == 401


def test_a_resume_queues_the_run_itself_with_an_answer(guarded: Served) -> None:
    run_id = add_run(guarded.deployment.store, status=RunStatus.WAITING, ended_at=None, model="offline")
    step = add_step(guarded.deployment.store, run_id)
    assert guarded.post(f"/api/v1/runs/{run_id}/resume", {"step_id": step}).status == 422
    queued = guarded.post(f"/api/v1/runs/{run_id}/resume", {"step_id": step[-8:], "answer": "done", "result": "TICKET-7"})
    assert (queued.status, queued.json()["status"]) == (202, "queued")
    (answered,) = guarded.get(f"/api/v1/runs/{run_id}/steps", **BEARER).json()["items"]
    assert (answered["status"], answered["result"]) == ("succeeded", "TICKET-7")
    ended = add_run(guarded.deployment.store)
    assert guarded.post(f"/api/v1/runs/{ended}/resume").status == 409
