"""What README and docs show is what happens: their jobs are loaded and run, their test passes, their steps can be typed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from taskpilot.testing import ScriptedModel, run_job, tool_call
from tests.loading import job_with_functions

REPOSITORY = Path(__file__).parents[2]
README = "README.md"
JOBS = "taskpilot/docs/jobs.md"
TESTING = "taskpilot/docs/testing.md"


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def block_with(text: str, name: str, language: str = "python") -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", text_of(name), flags=re.DOTALL)
    (found,) = [block for block in blocks if text in block]
    return found


@pytest.mark.parametrize("name", [README, JOBS])
def test_the_job_of_the_page_runs(tmp_path: Path, name: str) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "night_shift.py").write_text(block_with("def night_shift", name), encoding="utf-8")
    spec = job_with_functions(jobs, "night_shift")
    inbox = tmp_path / "inbox.txt"
    inbox.write_text("The printer on floor 2 is out of paper\n", encoding="utf-8")
    model = ScriptedModel(
        [
            {"tasks": [{"title": "Refill the printer", "priority": "low"}]},
            {"verdict": "APPROVE", "reason": "harmless"},
            [tool_call("open_ticket", title="Refill the printer", priority="low")],
            "a ticket is open",
        ]
    )
    result = run_job(spec.function, model=model, parameters={"inbox": str(inbox)})
    assert (result.status, result.result, result.reason) == ("succeeded", "1 requests handled", "")
    assert [task.status for task in result.tasks] == ["executed"]


def test_the_test_of_the_page_on_testing_passes(tmp_path: Path) -> None:
    file = tmp_path / "test_readme_example.py"
    file.write_text(block_with("def test_a_request_becomes_a_task", TESTING), encoding="utf-8")
    (settings := tmp_path / "pytest.ini").touch()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", str(settings), str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_steps_of_the_readme_can_be_typed_in_their_order(tmp_path: Path) -> None:
    (programs := tmp_path / "bin").mkdir()
    (programs / "taskpilot").write_text(f'#!/bin/sh\nexec {sys.executable} -m taskpilot "$@"\n', encoding="utf-8")
    (programs / "taskpilot").chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY), "OTEL_ENABLED": "false"}

    def typed(text: str, folder: Path, code: int = 0, **ids: str) -> str:
        for name, value in ids.items():
            text = re.sub(rf"\b{name}\b", value, text)
        done = subprocess.run(
            ["sh", "-e", "-c", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    assert "hello succeeded" in typed(block_with("taskpilot init my-jobs", README, "sh"), tmp_path)
    folder = tmp_path / "my-jobs"
    (folder / "jobs/night_shift.py").write_text(block_with("def night_shift", README), encoding="utf-8")
    shown = typed(block_with("> inbox.txt", README, "sh"), folder, code=13)
    (task,) = set(re.findall(r"taskpilot tasks approve (\S+?)(?:`|\s)", shown))
    (run,) = set(re.findall(r"taskpilot runs resume (\S+)", shown))
    answered = typed(block_with("tasks approve TASK", README, "sh"), folder, TASK=task, RUN=run)
    assert "night_shift succeeded" in answered
    schedule = block_with("taskpilot jobs next", README, "sh")
    assert "Europe/Berlin" in typed(schedule.replace("taskpilot serve\n", ""), folder)
    assert "night_shift" in typed("taskpilot runs && taskpilot export crontab night_shift || test $? = 1", folder)


def test_the_readme_is_short() -> None:
    lines = text_of(README).splitlines()
    assert len(lines) <= 150
    prose = re.sub(r"^```.*?^```", "", text_of(README), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > 120] == []
