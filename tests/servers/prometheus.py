"""A real Prometheus on a free port that scrapes given targets every second."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.debian import require
from tests.servers.ports import free_port
from tests.servers.pushgateway import wait_for


@dataclass(frozen=True)
class Prometheus:
    """Where it listens."""

    url: str

    def query(self, text: str) -> list[dict[str, Any]]:
        """The result of an instant query: one entry a series, `metric` and `value`."""
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': text})}", timeout=10) as answer:
            return list(json.load(answer)["data"]["result"])

    def value(self, text: str) -> float | None:
        """The value of a query with one series, or None where it has none."""
        found = self.query(text)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def until(self, text: str, holds: Callable[[float | None], bool], *, seconds: float = 30.0) -> float | None:
        """Asks until the value is as wanted: a scrape takes its time."""
        deadline = time.monotonic() + seconds
        while not holds(value := self.value(text)):
            assert time.monotonic() < deadline, f"{text} is still {value}"
            time.sleep(0.2)
        return value


@contextmanager
def prometheus(
    folder: Path,
    targets: Sequence[str],
    *,
    rule_files: Sequence[Path] = (),
    alertmanagers: Sequence[str] = (),
    flags: Mapping[str, str] | None = None,
) -> Iterator[Prometheus]:
    """Runs one until the block ends, scraping `host:port` targets with honor_labels; its log is `folder/prometheus.log`.

    Alerts of the rule files go to the `host:port` of Alertmanagers.
    """
    binary = require("prometheus", "prometheus")
    port = free_port()
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rule_files],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
        "scrape_configs": [{"job_name": "pushgateway", "honor_labels": True, "static_configs": [{"targets": list(targets)}]}],
    }
    # JSON is YAML too.
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    given = {
        "web.listen-address": f"127.0.0.1:{port}",
        "config.file": str(folder / "prometheus.yml"),
        "storage.tsdb.path": str(folder / "tsdb"),
    }
    arguments = [binary, *(f"--{name}={value}" for name, value in (given | dict(flags or {})).items())]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/-/ready", process)
            yield Prometheus(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
