"""A stage: supervisors that run in processes of their own, never in pytest's."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def alive(pid: int) -> bool:
    """True for a process that exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> bool:
    """True as soon as the condition is; there is no other way to wait for a process that is not our child."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.01)
    return False


class Play:
    """One supervisor, started."""

    def __init__(self, folder: Path, prefix: tuple[str, ...], options: dict[str, Any]) -> None:
        self.folder = folder
        script = str(Path(__file__).with_name("stage.py"))
        self.process = subprocess.Popen(
            [*prefix, sys.executable, script, json.dumps({"folder": str(folder), **options})],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SECRET": "hidden", "KEPT": "seen"},
        )

    def pid_of(self, name: str) -> int:
        path = self.folder / name
        assert eventually(path.exists), f"{name} never came on stage"
        return int(path.read_text())

    def lives(self, name: str) -> bool:
        return alive(self.pid_of(name))

    def is_gone(self, name: str) -> bool:
        """True as soon as that process is no more."""
        pid = self.pid_of(name)
        return eventually(lambda: not alive(pid))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ending(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        assert not err
        answer: dict[str, Any] = json.loads(out)
        return answer

    @property
    def output(self) -> bytes:
        return (self.folder / "output.log").read_bytes()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Play]]:
    """Starts a supervisor of the job that stage.py has under this name."""
    plays: list[Play] = []

    def start(job: str, *, prefix: tuple[str, ...] = (), **options: Any) -> Play:
        plays.append(Play(tmp_path, prefix, {"job": job, **options}))
        return plays[-1]

    yield start
    for started in plays:
        started.process.kill()
        started.process.communicate()
