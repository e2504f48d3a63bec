"""Signals wake their libraries only when there is something to tell."""

import subprocess
import sys
from pathlib import Path

_HEAVY = ("prometheus_client", "opentelemetry", "grpc", "requests", "loguru")


def test_importing_the_signals_wakes_none_of_their_libraries() -> None:
    rooms = ("publish", "logs", "decision_log", "gateway", "metrics", "metrics_file", "traces.file", "traces.collector")
    imports = "\n".join(f"import taskpilot.telemetry.{room}" for room in rooms)
    script = f"import sys\n{imports}\nprint(*(name for name in {_HEAVY!r} if name in sys.modules))"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert (done.stdout.strip(), done.stderr) == ("", "")
