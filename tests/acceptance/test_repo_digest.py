"""The shipped digest of a repository by the real command: twice, and the second one holds only what is new."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.command import Said, TaskPilot
from tests.repositories import Repository

SHIPPED = Path(__file__).parents[2] / "jobs"


@pytest.fixture
def repository(taskpilot: TaskPilot, tmp_path: Path) -> Repository:
    for name in ("repo_digest.py", "_repository.py"):
        shutil.copy(SHIPPED / name, taskpilot.root / "jobs" / name)
    return Repository(tmp_path / "engine")


def digest_of(taskpilot: TaskPilot, repository: Repository) -> tuple[Said, Any, str]:
    said = taskpilot("run", "repo_digest", "--model", "offline", "-p", f"repository={repository.folder}", "--json")
    path = taskpilot.state_dir / "runs" / str(said.json["run_id"]) / "artifacts" / "digest.md"
    return said, said.json, path.read_text() if path.exists() else ""


def test_the_second_digest_holds_only_what_is_new(taskpilot: TaskPilot, repository: Repository) -> None:
    repository.commit("Begin", "src/app.py")
    repository.commit("Pin what we use", "requirements.lock")
    said, first, page = digest_of(taskpilot, repository)
    assert (said.code, said.err, first["status"]) == (0, "", "succeeded")
    assert first["result"].startswith("2 commits in engine, 2 follow-up tasks; the digest: ")
    assert first["tasks"] == {"executed": 2}
    assert "`Begin`" in page
    assert "`Pin what we use`" in page

    said, nothing, page = digest_of(taskpilot, repository)
    assert (said.code, nothing["llm_calls"], page) == (0, 0, "")
    assert nothing["result"].startswith("nothing new in engine, since the last digest, of ")

    repository.commit("\x1b[2J[Go](http://evil.example) `on`", "docs/more.md")
    said, second, page = digest_of(taskpilot, repository)
    assert (said.code, second["llm_calls"], second["tasks"]) == (0, 1, {})
    assert "1 commit by 1 author" in page
    assert "`\\x1b[2J[Go](http://evil.example) 'on'`" in page
    assert "Begin" not in page


def test_what_is_no_repository_fails_once_and_says_so(taskpilot: TaskPilot, repository: Repository, tmp_path: Path) -> None:
    said = taskpilot("run", "repo_digest", "--model", "offline", "-p", f"repository={tmp_path / 'nowhere'}")
    assert (said.code, taskpilot.run()["attempts"]) == (1, 1)
    assert "cannot change to" in said.out + said.err
