"""mypy --strict as a user runs it, beside an installed TaskPilot: on right and wrong uses of the API, and on every example job."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from taskpilot.setup.first_job import FIRST_JOB, make_starting_point

# mypy reads the libraries too: half a minute on two cores.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
USES = Path(__file__).with_name("uses.py")
ERROR = re.compile(r"(?P<file>[^:]+):(?P<line>\d+): error: (?P<text>.*)")
EXPECTED = re.compile(r"  # E: (.*)$")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> dict[str, str]:
    """The Python blocks of README and docs that import TaskPilot, by the name of a file for each."""
    pages = [ROOT / "README.md", *sorted((ROOT / "taskpilot" / "docs").rglob("*.md"))]
    blocks = [(page.stem.lower(), block) for page in pages for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    return {f"{stem}_{number}.py": block for number, (stem, block) in enumerate(blocks) if "taskpilot" in block}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, list[str]]]:
    """The errors of one run of mypy, by file and line."""
    folder = tmp_path_factory.mktemp("typed")
    shutil.copy(USES, folder)
    shutil.copytree(ROOT / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    make_starting_point(folder / "start")
    (folder / "start" / "jobs" / f"{FIRST_JOB}.py").rename(folder / f"{FIRST_JOB}.py")
    for name, text in examples().items():
        (folder / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--explicit-package-bases", "--cache-dir=cache", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in done.stdout.splitlines():
        if match := ERROR.match(line):
            found[match["file"]][int(match["line"])].append(match["text"])
    return found


def test_mypy_rejects_each_wrong_use_and_no_right_one(errors: dict[str, dict[int, list[str]]]) -> None:
    for number, line in enumerate(USES.read_text(encoding="utf-8").splitlines(), start=1):
        wanted = EXPECTED.findall(line)
        wanted = wanted[0].split(" ;; ") if wanted else []
        reported = errors["uses.py"].get(number, [])
        assert len(reported) == len(wanted), f"line {number}: {line.strip()}\nmypy reports: {reported}"
        for text in wanted:
            assert any(text in one for one in reported), f"line {number}: {line.strip()}\nmypy reports: {reported}"


def test_the_example_jobs_pass(errors: dict[str, dict[int, list[str]]]) -> None:
    assert {file: dict(lines) for file, lines in errors.items() if file != "uses.py"} == {}
    assert len(examples()) >= 2
