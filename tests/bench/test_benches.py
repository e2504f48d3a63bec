"""The benchmarks can be run. What they measure is for people to read on a quiet machine, never for a test."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
FIGURES = {
    "start": (
        "--help",
        "run, one question",
        "run, peak of the larger process",
        "a refused run (no model)",
        "a refused run (unknown job)",
        "a skipped run (fire claimed)",
    ),
    "record": ("run record", "run record", "run record", "three steps, one process", "three steps, with its pair"),
    "fanout": ("500 calls, 100 at once", "a call's CPU", "500 calls, 8 at once", "1,000 calls, time a call"),
    "telemetry": ("push at run 1,000", "telemetry dead", "telemetry hanging"),
    "scheduler": (
        "1,000 due at once, p50",
        "the same with 1,000 runs, p50",
        "1,000 due at once, p99",
        "the same with 1,000 runs, p99",
        "100 jobs idle",
        "the same with 1,000 runs",
    ),
    "reading": ("golden signals", "health", "status", "a page of runs", "a page of failed runs", "a page of jobs"),
}


@pytest.mark.parametrize("subject", FIGURES)
def test_a_benchmark_prints_one_line_a_figure(subject: str) -> None:
    command = [sys.executable, "-m", "tests.bench", subject, "--rounds", "1"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line[:34].strip() for line in lines] == list(FIGURES[subject])
    # Whether a bound held is the last word of each line, and the exit code.
    assert done.returncode == int(any(line.endswith("NO") for line in lines))
