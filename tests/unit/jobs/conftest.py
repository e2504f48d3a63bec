"""A folder of job files, and an import system that is as clean after a test as before it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

WriteJob = Callable[[str, str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for job files; what loading it does to the import system is undone."""
    modules, path = set(sys.modules), list(sys.path)
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    yield jobs
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("taskpilot_jobs") or str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def write(folder: Path) -> WriteJob:
    """Writes a job file."""

    def write_file(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write_file
