"""What Tab offers, through the variable by which a shell asks the real program, and in a real bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm
from tests.night_jobs import Command, make_root

JOB = """
from taskpilot import job

raise SystemExit("a job file is not run for a Tab")


@job
def backup_all(ctx):
    return 1


@job(name="billing")
def other(ctx):
    return 1


def helper(ctx):
    return 1
"""


@pytest.fixture
def taskpilot(tmp_path: Path) -> Command:
    return Command(make_root(tmp_path / "the root"))


def offered(taskpilot: Command, *words: str) -> list[str]:
    """What bash is offered for the last of the words, of which the shell tells them all."""
    line = " ".join(("taskpilot", *words))
    asked = {"_TASKPILOT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    done = warm.run_text((), environment={**taskpilot.environment, **asked}, cwd=taskpilot.folder)
    assert (done.returncode, done.stderr) == (0, "")
    return [found.partition(",")[2] for found in done.stdout.splitlines() if found]


def test_commands_and_options_are_offered(taskpilot: Command) -> None:
    assert offered(taskpilot, "ru") == ["run", "runs"]
    assert offered(taskpilot, "runs", "") == ["list", "show", "steps", "artifacts", "rerun", "logs", "cancel", "feedback", "resume"]
    assert offered(taskpilot, "run", "hello", "--mo") == ["--model"]
    assert "timed_out" in offered(taskpilot, "runs", "--status", "")


def test_jobs_are_offered_without_running_their_files(taskpilot: Command) -> None:
    (taskpilot.folder / "jobs" / "more.py").write_text(JOB)
    (taskpilot.folder / "jobs" / "broken.py").write_text("@job\ndef broken(:\n")
    assert offered(taskpilot, "run", "b") == ["backup_all", "billing", "breaks"]
    assert "helper" not in offered(taskpilot, "run", "")
    assert offered(taskpilot, "jobs", "show", "bi") == ["billing"]


def test_ids_are_offered_by_what_may_be_done_with_them(taskpilot: Command) -> None:
    assert taskpilot("run", "hello").code == 0
    assert taskpilot("run", "breaks").code == 1
    failed, well = (run["run_id"][-8:] for run in taskpilot("runs", "--json").json)
    assert offered(taskpilot, "runs", "show", "") == [failed, well, "last"]
    assert offered(taskpilot, "runs", "show", well[:20]) == [one for one in (failed, well) if one.startswith(well[:20])]
    assert offered(taskpilot, "runs", "resume", "") == [failed]
    assert offered(taskpilot, "runs", "cancel", "") == []
    assert offered(taskpilot, "tasks", "approve", "") == []


def test_a_place_named_on_the_line_is_looked_into(taskpilot: Command, tmp_path: Path) -> None:
    other = Command(tmp_path)
    assert offered(other, "run", "hel") == []
    assert offered(other, "--root", "'the root'", "run", "hel") == ["hello"]


def test_where_nothing_is_nothing_is_offered_and_nothing_made(taskpilot: Command, tmp_path: Path) -> None:
    assert offered(taskpilot, "runs", "show", "") == []
    assert offered(taskpilot, "nonsense", "--x", "") is not None
    empty = tmp_path / "empty"
    empty.mkdir()
    assert offered(Command(empty), "run", "") == offered(Command(empty), "runs", "show", "") == []
    assert not (taskpilot.folder / ".taskpilot").exists()
    assert list(empty.iterdir()) == []


def test_a_store_that_is_none_or_settings_that_are_broken_offer_nothing(taskpilot: Command) -> None:
    (taskpilot.folder / ".taskpilot").mkdir()
    (taskpilot.folder / ".taskpilot" / "taskpilot.db").write_text("no database")
    assert offered(taskpilot, "runs", "show", "") == []
    (taskpilot.folder / "taskpilot.toml").write_text("jobs = [")
    assert offered(taskpilot, "run", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str, taskpilot: Command) -> None:
    taskpilot.environment["_TASKPILOT_COMPLETE"] = f"{shell}_source"
    done = taskpilot()
    assert (done.code, done.err) == (0, "")
    assert f"_TASKPILOT_COMPLETE={shell}_complete" in done.out


def test_a_shell_that_is_not_known_gets_silence(taskpilot: Command) -> None:
    taskpilot.environment["_TASKPILOT_COMPLETE"] = "cmd_source"
    done = taskpilot()
    assert (done.code, done.out, done.err) == (1, "", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash: apt-get install bash")
def test_bash_itself_offers_the_job(taskpilot: Command) -> None:
    typed = """
eval "$(_TASKPILOT_COMPLETE=bash_source taskpilot)"
COMP_WORDS=(taskpilot run hel); COMP_CWORD=2
_taskpilot_completion taskpilot
echo "${COMPREPLY[@]}"
complete -p taskpilot
"""
    path = f"{Path(sys.executable).parent}:{os.defpath}"
    done = subprocess.run(
        ["bash", "--norc", "-ec", typed], cwd=taskpilot.folder, env={**taskpilot.environment, "PATH": path},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("hello\n"), done
    assert "_taskpilot_completion" in done.stdout
