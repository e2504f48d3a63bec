"""Arize Phoenix, an OTLP backend, where it is asked for: 70 s of installing, 850 MB, 45 s to its first start."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.servers.ports import free_port

ASKED: Final = os.environ.get("TASKPILOT_PHOENIX", "")
"""`1` installs it into a folder of the test; the path of a virtual environment that has it saves that."""
VERSION: Final = "20.26.1"
_START_SECONDS: Final = 180.0

only_where_asked = pytest.mark.skipif(not ASKED, reason="heavy: TASKPILOT_PHOENIX=1 installs arize-phoenix (850 MB) and asks it")


@dataclass(frozen=True)
class Phoenix:
    """Where it listens."""

    web: str
    grpc: str

    def spans(self, number: int) -> list[dict[str, Any]]:
        """What it keeps, when there are as many; it writes a moment after it has answered."""
        deadline = time.monotonic() + 30
        while len(found := self._spans()) < number and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def _spans(self) -> list[dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{self.web}/v1/projects/default/spans?limit=1000", timeout=10) as answer:
                return list(json.load(answer)["data"])
        except OSError:
            return []


@contextmanager
def phoenix(folder: Path) -> Iterator[Phoenix]:
    """Runs one until the block ends, with an empty store; its log is `folder/phoenix.log`."""
    home = folder / "venv" if ASKED == "1" else Path(ASKED)
    if not (home / "bin" / "phoenix").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", f"arize-phoenix=={VERSION}"], check=True)
    web, grpc = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(web),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_WORKING_DIR": str(folder / "phoenix"),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    command = [str(home / "bin" / "phoenix"), "serve"]
    with (folder / "phoenix.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
        try:
            _wait_for(f"http://127.0.0.1:{web}/healthz", process)
            yield Phoenix(f"http://127.0.0.1:{web}", f"http://127.0.0.1:{grpc}")
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"Phoenix ended with {process.returncode}"
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"{url} did not answer in {_START_SECONDS} s")
