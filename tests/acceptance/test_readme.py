"""What the README shows is what happens: its job is loaded and run, and its test passes."""

import re
import subprocess
import sys
from pathlib import Path

from taskpilot.jobs.loader import load_jobs
from taskpilot.testing import ScriptedModel, run_job, tool_call

REPOSITORY = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


def block_with(text: str) -> str:
    (found,) = [block for block in BLOCKS if text in block]
    return found


def test_the_job_of_the_readme_runs(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "night_shift.py").write_text(block_with("def night_shift"), encoding="utf-8")
    catalog = load_jobs(jobs)
    assert catalog.broken == ()
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
    result = run_job(catalog.get("night_shift").function, model=model, parameters={"inbox": str(inbox)})
    assert (result.status, result.result, result.reason) == ("succeeded", "1 requests handled", "")
    assert [task.status for task in result.tasks] == ["executed"]


def test_the_test_of_the_readme_passes(tmp_path: Path) -> None:
    file = tmp_path / "test_readme_example.py"
    file.write_text(block_with("def test_a_request_becomes_a_task"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", "/dev/null", str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
