"""A real `taskpilot serve` in a process of its own, and everything that it started ended with it."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from tests.acceptance.kills.processes import alive, children, eventually, send
from tests.command import TaskPilot

MARK: Final = "SERVE_MARK"
LATEST: Final = 60.0
"""Seconds: what takes longer than this is stuck, however busy the machine is."""


class Server:
    """`taskpilot serve` over the root of a `TaskPilot`. Leaving the block ends it and all that descends from it, whatever they do."""

    def __init__(self, taskpilot: TaskPilot, **environment: str) -> None:
        self.taskpilot = taskpilot
        self._mark = uuid.uuid4().hex
        self._environment = {**taskpilot.environment, **environment, MARK: self._mark}
        self._log = taskpilot.root / f"server-{self._mark[:8]}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        self.wait_until_it_keeps_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        """Starts it, and does not wait."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.taskpilot.line("serve", "--port", "0"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.taskpilot.root,
                env=self._environment,
                start_new_session=True,
            )

    def wait_until_it_keeps_time(self) -> None:
        """Its row says that it runs, and its line on stderr does."""
        wait(lambda: self._ended() or (self.row()["state"] == "running" and f"(pid {self.pid})" in self.said()), self.said)
        assert not self._ended(), self.said()

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def fork_server(self) -> int:
        """The process that its supervisors come from."""
        [pid] = [child for child in children(self.pid) if b"--fork-server" in _command_line(child)]
        return pid

    @property
    def loaders(self) -> list[int]:
        """The idle process that reads its job files, if there is one."""
        return [child for child in children(self.pid) if b"taskpilot.process.isolated" in _command_line(child)]

    def send(self, number: signal.Signals) -> None:
        """Signals the server alone."""
        os.kill(self.pid, number)

    def reload(self) -> None:
        """Makes it read the job files now, by SIGHUP."""
        self.send(signal.SIGHUP)

    def wait(self, seconds: float = LATEST) -> int:
        """Its exit code, when it has ended by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to end, and gives its exit code."""
        self.send(number)
        return self.wait()

    def end(self) -> None:
        """Leaves no process behind."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        while pids := self.marked():
            for pid in pids:
                send(pid, signal.SIGKILL)
            time.sleep(0.02)

    def marked(self) -> list[int]:
        """Every living process that descends from the server, in whatever session, whoever its parent is now."""
        wanted = f"{MARK}={self._mark}".encode()
        return [pid for pid in _pids() if wanted in _read(pid, "environ").split(b"\0") and alive(pid)]

    def supervisors(self) -> list[int]:
        """The processes that hold its runs' leases."""
        rows = self.taskpilot.rows("SELECT json_extract(owner, '$.pid') AS pid FROM runs WHERE status = 'running'")
        return [row["pid"] for row in rows]

    def row(self) -> dict[str, Any]:
        """What it last wrote of itself; state `none` before it did."""
        query = "SELECT * FROM schedulers WHERE json_extract(owner, '$.pid') = ? ORDER BY started_at DESC LIMIT 1"
        rows = self.taskpilot.rows(query, self.pid) if self._made() else []
        return rows[0] if rows else {"state": "none"}

    def said(self) -> str:
        """What it printed."""
        return self._log.read_text()

    def rss(self) -> tuple[float, float]:
        """MiB of the server and of its fork server."""
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in (self.pid, self.fork_server))
        server, fork_server = (number * os.sysconf("SC_PAGE_SIZE") / (1 << 20) for number in pages)
        return server, fork_server

    def _made(self) -> bool:
        """Whether there is a store with its tables."""
        if not (self.taskpilot.state_dir / "taskpilot.db").exists():
            return False
        return bool(self.taskpilot.rows("SELECT 1 FROM sqlite_master WHERE name = 'schedulers'"))

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


@contextmanager
def serving(taskpilot: TaskPilot, **environment: str) -> Iterator[Server]:
    """A server that runs inside the block."""
    with Server(taskpilot, **environment) as server:
        yield server


def new_root(folder: Path) -> TaskPilot:
    """The command in an empty root of its own, for servers that several tests share."""
    root = folder / "root"
    (root / "jobs").mkdir(parents=True)
    (root / "taskpilot.toml").write_text("")
    (folder / "home").mkdir()
    return TaskPilot(root, folder / "home")


def wait(condition: Callable[[], object], said: Callable[[], object] = lambda: "", *, seconds: float = LATEST) -> None:
    """Waits until something is so, and fails with what `said` gives where it is not."""
    assert eventually(condition, seconds=seconds, every=0.05), said()


def soon(seconds: float = 8.0) -> str:
    """A moment from now as a schedule, for a job that a running server is yet to read."""
    return f'at("{(datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()}")'


def runs_of(taskpilot: TaskPilot, job: str) -> list[dict[str, Any]]:
    """The runs of a job, the first one first."""
    return taskpilot.rows("SELECT * FROM runs WHERE job = ? ORDER BY id", job)


def fires_of(taskpilot: TaskPilot, job: str) -> list[dict[str, Any]]:
    """The fires of a job that have a row, by their times."""
    return taskpilot.rows("SELECT * FROM fires WHERE job = ? ORDER BY scheduled_for", job)


def attempts_of(taskpilot: TaskPilot, job: str) -> list[tuple[str, str]]:
    """How the attempts of a job's runs ended: status and reason."""
    query = "SELECT a.status, a.reason_code FROM attempts a JOIN runs r ON r.id = a.run_id WHERE r.job = ? ORDER BY r.id, a.number"
    return [(row["status"], row["reason_code"]) for row in taskpilot.rows(query, job)]


def ended(taskpilot: TaskPilot, job: str) -> bool:
    """Whether every run of a job has ended, one at least."""
    rows = runs_of(taskpilot, job)
    return bool(rows) and all(row["ended_at"] for row in rows)


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _command_line(pid: int) -> bytes:
    return _read(pid, "cmdline")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
