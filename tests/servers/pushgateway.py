"""A real Pushgateway on a free port, with its state in memory."""

import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.debian import require
from tests.servers.ports import free_port

_START_SECONDS = 20.0


@dataclass(frozen=True)
class Pushgateway:
    """Where it listens."""

    url: str
    port: int

    def metrics(self) -> str:
        """All that a Prometheus would scrape."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def forgets(self, text: str) -> bool:
        """Whether a text is gone from what it shows, within seconds: it answers a deletion before it has done it."""
        deadline = time.monotonic() + 10
        while text in self.metrics():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the one series of that name that has these labels, or None."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        for line in self.metrics().splitlines():
            if line.startswith(f"{name}{{") and all(one in line for one in wanted):
                return float(line.rsplit(" ", 1)[1])
        return None


@contextmanager
def pushgateway(folder: Path, *, port: int | None = None, persistence: Path | None = None) -> Iterator[Pushgateway]:
    """Runs one until the block ends; its log is `folder/pushgateway.log`. With `persistence` its state outlives it in that file."""
    binary = require("prometheus-pushgateway", "prometheus-pushgateway")
    port = port or free_port()
    arguments = [binary, f"--web.listen-address=127.0.0.1:{port}", f"--persistence.file={persistence or ''}"]
    with (folder / "pushgateway.log").open("wb") as log, subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/-/ready", process)
            yield Pushgateway(f"http://127.0.0.1:{port}", port)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Returns when the server answers; fails where it ended or never does."""
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(url):
        assert process.poll() is None, f"the server ended with {process.returncode} before it answered {url}"
        assert time.monotonic() < deadline, f"{url} did not answer in {_START_SECONDS} s"
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except OSError:
        return False
    return True
