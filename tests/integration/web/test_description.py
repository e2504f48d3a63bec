"""The API does what its own description says: Schemathesis asks it everything, and finds no 5xx and no undocumented answer."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from taskpilot.domain.notices import NoticeEvent
from taskpilot.domain.reasons import NO_REASON
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.store.notices import insert_incident
from tests.integration.web.serving import TOKEN, Served, make_root, serving
from tests.records import NOON, add_decision, add_run, add_task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED: Final = 20261125
EXAMPLES: Final = 4
"""An operation; the phase `coverage` comes on top of them. By hand, a thousand found nothing more."""


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Served]:
    """A server with rows of every kind."""
    with serving(make_root(tmp_path), token=TOKEN) as server:
        for _ in range(3):
            run_id = add_run(server.deployment.store, status=RunStatus.WAITING)
            add_task(server.deployment.store, run_id, status=TaskStatus.REVIEW)
            add_decision(server.deployment.store, run_id)
        with server.deployment.store.write() as connection:
            insert_incident(connection, NoticeEvent.RUN_FAILED, at=NOON, job="triage", subject="", reason=NO_REASON)
        yield server


def known_records(server: Served, folder: Path) -> Path:
    """A configuration that lets every path name something that is there."""
    ids = {noun: server.get(f"/api/v1/{noun}s").json()["items"][0][f"{noun}_id"] for noun in ("run", "task", "decision")}
    ids["incident"] = server.get("/api/v1/incidents").json()["items"][0]["id"]
    file = folder / "schemathesis.toml"
    lines = ['"path.name" = "triage"', *(f'"path.{noun}_id" = "{one}"' for noun, one in ids.items())]
    file.write_text("[parameters]\n" + "\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("named", ["anything", "what_is_there"])
def test_every_answer_is_one_that_is_described(full: Served, tmp_path: Path, named: str) -> None:
    configured = ["--config-file", str(known_records(full, tmp_path))] if named == "what_is_there" else []
    command = [sys.executable, "-m", "schemathesis.cli", *configured, "run", f"{full.server.url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {TOKEN}", "--seed", str(SEED), "--max-examples", str(EXAMPLES)]
    command += ["--phases", "coverage,fuzzing", "--checks", "all", "--warnings", "off", "--request-timeout", "20"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, f"seed {SEED}\n{done.stdout}\n{done.stderr}"
    assert f"Seed: {SEED}" in done.stdout
    assert "36 selected / 36 total" in done.stdout


def test_the_tool_would_find_an_answer_that_is_not_described(full: Served, tmp_path: Path) -> None:
    """A check that cannot fail is none: the same tool, told of a server without its refusals."""
    described = full.get("/openapi.json").json()
    for methods in described["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("404", None)
            operation["responses"].pop("422", None)
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(described))
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(file), "--url", full.server.url, "--seed", str(SEED)]
    command += [
        "--max-examples",
        "1",
        "--phases",
        "coverage",
        "--checks",
        "status_code_conformance",
        "--include-path",
        "/api/v1/tasks/{task_id}",
        "--max-failures",
        "1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=800)
    assert done.returncode == 1, done.stdout
    assert "Undocumented status code" in done.stdout, done.stdout
