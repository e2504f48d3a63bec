"""The shipped digest of a repository: what it counts, where it goes on, and what it asks."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from taskpilot import ModelUnavailable
from taskpilot.testing import JobResult, ScriptedModel
from tests.repositories import MORNING, Repository, page, says, subjects

Run = Callable[..., JobResult]


def test_the_numbers_are_gits(repository: Repository, run: Run) -> None:
    repository.commit("Begin", "src/app.py", "one\ntwo\nthree\n")
    repository.git("switch", "--quiet", "-c", "side")
    repository.commit("Draw", "img/logo.png", b"\x00\x01\x02", author="Bob")
    repository.git("switch", "--quiet", "main")
    repository.commit("Move", "src/app.py", "one\ntwo\n")
    repository.git("mv", "src/app.py", "src/core.py")
    repository.commit("Rename", "README.md", "hello\n")
    repository.git("merge", "--quiet", "--no-ff", "-m", "Merge side", "side")
    text = page(run(repository))
    assert "5 commits by 2 authors, 1 merge among them; +3 and -0 lines in 3 files." in text
    assert "`Ada` (4), `Bob` (1)\n" in text
    assert "| `src` | 1 | 2 | 0 |" in text
    assert "| `img` | 1 | 0 | 0 |" in text
    assert "| `.` | 1 | 1 | 0 |" in text
    assert "Check the changes without a test (`src/core.py`)" in text


def test_the_second_run_digests_only_what_is_new(repository: Repository, run: Run) -> None:
    repository.commit("Old one")
    repository.commit("Old two")
    assert subjects(run(repository)) == ["Old two", "Old one"]
    repository.commit("New one", "uv.lock")
    second = run(repository)
    assert subjects(second) == ["New one"]
    assert "since the last digest, of 2026-11-25 06:30 UTC" in page(second)
    assert [(task.title, task.status) for task in second.tasks] == [("Review the changed dependencies of engine", "executed")]


def test_nothing_new_is_a_success_that_asks_no_model(repository: Repository, run: Run) -> None:
    repository.commit("Only one")
    run(repository)
    silent = ScriptedModel([])
    again = run(repository, model=silent)
    assert (again.status, again.result) == ("succeeded", "nothing new in engine, since the last digest, of 2026-11-25 06:30 UTC")
    assert silent.requests == []
    assert again.artifacts == {}


def test_a_run_that_failed_digested_nothing(repository: Repository, run: Run) -> None:
    repository.commit("First")
    failed = run(repository, model=ScriptedModel([ModelUnavailable("no answer")]))
    assert (failed.status, failed.exit_code) == ("failed", 75)
    assert b"`First`" in failed.artifacts["digest.md"]
    assert subjects(run(repository)) == ["First"]


def test_repositories_and_branches_are_not_mixed_up(repository: Repository, run: Run, tmp_path: Path) -> None:
    other = Repository(tmp_path / "other")
    repository.commit("Engine")
    other.commit("Other")
    repository.git("branch", "stable")
    assert [subjects(run(each)) for each in (repository, other)] == [["Engine"], ["Other"]]
    repository.commit("Engine two")
    assert subjects(run(repository)) == ["Engine two"]
    assert subjects(run(repository, branch="stable")) == ["Engine"]
    assert run(other).result.startswith("nothing new")
    # From a folder inside, and whatever a git hook's environment says, it is the same repository.
    (repository.folder / "deep").mkdir()
    assert run(repository.folder / "deep").result.startswith("nothing new")


def test_the_environment_of_a_git_hook_does_not_name_the_repository(
    repository: Repository, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Repository(tmp_path / "other")
    other.commit("Other")
    repository.commit("Engine")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    assert subjects(run(repository)) == ["Engine"]


def test_after_a_rebase_only_what_is_really_new_is_digested(repository: Repository, run: Run) -> None:
    repository.commit("Base")
    repository.commit("Kept", "kept.md", "kept\n")
    run(repository)
    kept = repository.git("rev-parse", "HEAD")
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.commit("Below", "below.md")
    repository.git("cherry-pick", kept)
    repository.commit("New", "new.md")
    ran = run(repository)
    assert subjects(ran) == ["New", "Below"]
    assert "The history was rewritten" in page(ran)
    assert "Look at the rewritten history (1 commit from before no longer in it)" in page(ran)


def test_a_commit_that_is_gone_is_replaced_by_its_date(repository: Repository, run: Run) -> None:
    repository.commit("Base")
    repository.commit("Amended away")
    run(repository)
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.at = MORNING + timedelta(days=1, hours=1)
    repository.commit("New", "new.md")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--quiet", "--prune=now")
    ran = run(repository)
    assert subjects(ran) == ["New"]
    assert re.search(r"by date, since 2026-11-25 06:30 UTC: the commit `[0-9a-f]{10}` of the last digest is gone", page(ran))


def test_a_first_digest_looks_back_a_little_and_says_so(repository: Repository, run: Run) -> None:
    for number in range(25):
        repository.commit(f"Number {number}")
    first = run(repository, limit=3)
    assert "20 commits by 1 author" in page(first)
    assert "the first digest of this repository: it looks back 20 steps" in page(first)
    assert subjects(first) == ["Number 24", "Number 23", "Number 22"]
    assert "- and 17 more" in page(first)
    assert "24 commits" in page(run(repository, since="HEAD~24"))


def test_an_empty_repository_has_nothing_new(repository: Repository, run: Run) -> None:
    assert run(repository).result == "nothing new in engine, it has no commit yet"
    repository.commit("First")
    assert subjects(run(repository)) == ["First"]


def test_bare_shallow_and_detached_clones_are_read_too(repository: Repository, run: Run, tmp_path: Path) -> None:
    for number in range(3):
        repository.commit(f"Number {number}")
    repository.git("clone", "--quiet", "--bare", str(repository.folder), str(tmp_path / "bare.git"))
    bare = run(tmp_path / "bare.git")
    assert (len(subjects(bare)), "3 commits in bare" in bare.result) == (3, True)
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.folder}", str(tmp_path / "shallow"))
    assert "This clone is shallow" in page(run(tmp_path / "shallow"))
    repository.git("checkout", "--quiet", "--detach", "HEAD~1")
    assert subjects(run(repository)) == ["Number 1", "Number 0"]


def test_what_the_model_finds_is_planned_and_reviewed_like_any_request(repository: Repository, run: Run) -> None:
    repository.commit("Quiet")
    model = says("One commit.", "Tell the\nusers")
    ran = run(repository, model=model)
    request = next(request.messages[-1].content for request in model.requests if request.agent == "planner")
    assert request == "Follow-ups of what changed in engine:\n- Tell the users"
    assert [(task.title, task.status) for task in ran.tasks] == [("Do it", "rejected")]
    assert "- `Do it` (low, rejected)" in page(ran)


def test_a_quiet_day_asks_the_model_once(repository: Repository, run: Run) -> None:
    repository.commit("Quiet")
    model = says("One commit.")
    assert run(repository, model=model).result.startswith("1 commit in engine, 0 follow-up tasks; the digest: ")
    assert [request.agent for request in model.requests] == ["summarizer"]
