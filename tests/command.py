"""The real `taskpilot` in a process of its own, over a root of its own, and its record read from outside."""

import json
import os
import pty
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import warm

SECONDS = 120.0
"""No command of a test takes longer; the machine may be busy."""


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class TaskPilot:
    """The command with an environment of its own: nothing but PATH, HOME, no telemetry collector, no built-in job, and what a test sets."""

    def __init__(self, root: Path, home: Path, **environment: str) -> None:
        self.cold = False
        """Whether each command is a new interpreter, not a fork of one that has imported the program."""
        self.root = root
        self.state_dir = root / ".taskpilot"
        self.environment: dict[str, str] = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "OTEL_ENABLED": "false",
            "TASKPILOT_HOUSEKEEPING": "off",
            **environment,
        }

    def __call__(
        self,
        *arguments: str,
        stdin: bytes = b"",
        seconds: float = SECONDS,
        environment: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
    ) -> Said:
        """Runs `taskpilot ARGUMENTS` to its end. A None in `environment` takes the variable away."""
        began = time.monotonic()
        variables, folder = self._variables(environment), cwd or self.root
        if self.cold or warm.starts_cold(variables, folder):
            done = subprocess.run(self.line(*arguments), input=stdin, capture_output=True, timeout=seconds, cwd=folder, env=variables)
        else:
            done = warm.run(arguments, stdin=stdin, environment=variables, cwd=folder, seconds=seconds)
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode(), time.monotonic() - began)

    def start(self, *arguments: str, environment: Mapping[str, str | None] | None = None) -> subprocess.Popen[bytes]:
        """Starts `taskpilot ARGUMENTS` in a session of its own; the test ends it."""
        return subprocess.Popen(
            self.line(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.root,
            env=self._variables(environment),
            start_new_session=True,
        )

    def on_terminal(self, *arguments: str, columns: int = 120, environment: Mapping[str, str | None] | None = None) -> Said:
        """Runs the command with a terminal as its stdin, stdout and stderr; what it wrote there is `out`."""
        import fcntl
        import termios

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        began = time.monotonic()
        variables = {"TERM": "xterm-256color", **self._variables(environment)}
        process = subprocess.Popen(
            self.line(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, cwd=self.root, env=variables, start_new_session=True
        )
        os.close(theirs)
        shown = bytearray()
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:
            # Linux ends a terminal that nobody holds any more with EIO.
            pass
        finally:
            os.close(ours)
            code = process.wait(SECONDS)
        return Said(code, shown.decode().replace("\r\n", "\n"), "", time.monotonic() - began)

    def line(self, *arguments: str) -> list[str]:
        """The command line itself."""
        return [sys.executable, "-m", "taskpilot", *arguments]

    def job(self, text: str, *, name: str = "job") -> None:
        """Writes `jobs/<name>.py`."""
        (self.root / "jobs" / f"{name}.py").write_text(text)

    def settings(self, text: str) -> None:
        """Writes taskpilot.toml."""
        (self.root / "taskpilot.toml").write_text(text)

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """What a query finds in the record."""
        with closing(sqlite3.connect(f"file:{self.state_dir / 'taskpilot.db'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def run(self) -> dict[str, Any]:
        """The newest run's row."""
        return self.rows("SELECT * FROM runs ORDER BY id DESC LIMIT 1")[0]

    def totals(self, metric: str, *, job: str = "%") -> dict[str, int]:
        """A metric's running totals by their labels, a JSON text; of all jobs where none is named."""
        found = self.rows("SELECT labels, sum(value) AS value FROM totals WHERE metric = ? AND job LIKE ? GROUP BY labels", metric, job)
        return {row["labels"]: row["value"] for row in found}

    def _variables(self, more: Mapping[str, str | None] | None) -> dict[str, str]:
        merged: dict[str, str | None] = {**self.environment, **(more or {})}
        return {name: value for name, value in merged.items() if value is not None}
