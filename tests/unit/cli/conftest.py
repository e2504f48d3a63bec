"""The command line in this process, over a root and a store of its own."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taskpilot.cli.program import main
from taskpilot.store.database import Store

JOB = '''
from taskpilot.schedules.schedule import cron
from taskpilot.jobs.decorator import job


@job(schedule=cron("0 7 * * mon-fri", timezone="Europe/Berlin"), deadline="15m")
def triage(ctx, inbox: str = "inbox.jsonl", limit: int = 5) -> str:
    """Turns the night's requests into tasks."""
    return inbox
'''


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root"
    (folder / "jobs").mkdir(parents=True)
    (folder / "taskpilot.toml").write_text('jobs = "jobs"\n')
    (folder / "jobs" / "triage.py").write_text(JOB)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    opened = Store.open(root / ".taskpilot")
    yield opened
    opened.close()


@pytest.fixture
def cli(root: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def say(*arguments: str) -> Said:
        capfd.readouterr()
        code = main(arguments)
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return say
