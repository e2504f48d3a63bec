"""The same work by other tools, in the same run: DBOS for three steps, Celery with Redis and Prefect for a run of its own process."""

import os
import platform
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from shutil import which
from statistics import median
from tempfile import TemporaryDirectory, gettempdir

from taskpilot.app.wiring import App
from taskpilot.cli.progress import NoDisplay
from taskpilot.services.planning import RunRequest
from tests.bench import fanout
from tests.bench.figures import Figure, in_turn, ratio_figure, spent_by
from tests.bench.place import place
from tests.bench.record import opened_app, three_steps

PINNED = Path(__file__).with_name("peers.txt")
PROGRAMS = Path(__file__).with_name("peer_programs.py")
PREFECT = """
from prefect import flow, task

@task
def following(number):
    return number + 1

@flow
def three_steps():
    number = 0
    for _ in range(3):
        number = following(number)
    return number

assert three_steps() == 3
"""


def bench(rounds: int) -> Iterator[Figure]:
    """Each peer that can be installed here; one line says what could not."""
    interpreter = _environment()
    with opened_app() as app, TemporaryDirectory(prefix="taskpilot-peers-") as folder:
        yield _dbos(app, interpreter, Path(folder), rounds)
        yield from _celery(app, interpreter, Path(folder), rounds)
        yield _prefect(interpreter, Path(folder), max(1, rounds // 5))
    yield from fanout.bench(rounds)


def header() -> str:
    """Date, machine and versions, for a table of the figures."""
    pins = ", ".join(line.replace("==", " ") for line in PINNED.read_text().splitlines() if "==" in line)
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    return f"{today}, {os.cpu_count()} processors ({platform.machine()}), Python {platform.python_version()}, {pins}"


def _environment() -> Path:
    """The interpreter of the peers' environment, made once for each list of them."""
    home = Path(gettempdir()) / f"taskpilot-peers-{sha256(PINNED.read_bytes()).hexdigest()[:12]}"
    interpreter = home / "bin" / "python"
    if not (home / "complete").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([interpreter, "-m", "pip", "install", "-q", "-r", PINNED], check=True, stdout=sys.stderr)
        (home / "complete").touch()
    return interpreter


def _dbos(app: App, interpreter: Path, folder: Path, rounds: int) -> Figure:
    with _peer(interpreter, "dbos", folder) as theirs:
        pairs = in_turn(rounds * 5, _timed(lambda: three_steps(app)), theirs)
    value = f"{median(one for one, _ in pairs) * 1000:.1f} ms"
    peer = f"DBOS on SQLite ({median(other for _, other in pairs) * 1000:.1f} ms)"
    return ratio_figure("three steps, one process", value, [one / other for one, other in pairs], peer, at_most=1)


def _celery(app: App, interpreter: Path, folder: Path, rounds: int) -> Iterator[Figure]:
    redis = which("redis-server")
    if redis is None:
        yield Figure("a run of its own process", "-", "Celery: no redis-server (apt-get install redis-server)", "", None)
        return
    command = [redis, "--port", "0", "--unixsocket", str(folder / "redis.sock"), "--save", "", "--dir", str(folder)]
    with ExitStack() as stack:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        stack.callback(server.wait)
        stack.callback(server.kill)
        while not (folder / "redis.sock").exists():
            time.sleep(0.05)
        theirs = stack.enter_context(_peer(interpreter, "celery", folder))

        def ours() -> None:
            assert app.run(RunRequest(job="three_steps"), NoDisplay()).exit_code == 0

        pairs = in_turn(rounds * 2, _timed(ours), theirs)
    value = f"{median(one for one, _ in pairs) * 1000:.0f} ms"
    peer = f"a Celery task in a new process ({median(other for _, other in pairs) * 1000:.0f} ms)"
    yield ratio_figure("a run with its pair", value, [one / other for one, other in pairs], peer)


def _prefect(interpreter: Path, folder: Path, rounds: int) -> Figure:
    (folder / "flow.py").write_text(PREFECT)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PREFECT_HOME": str(folder / "prefect"), "PREFECT_LOGGING_LEVEL": "ERROR"}
    with place() as here:

        def ours() -> float:
            taken = here.taskpilot("run", "three_steps", OTEL_ENABLED="false")
            assert taken.code == 0
            return taken.wall_seconds

        def theirs() -> float:
            taken = spent_by([str(interpreter), str(folder / "flow.py")], root=folder, environment=environment)
            assert taken.code == 0
            return taken.wall_seconds

        # Prefect starts a server of its own for a flow and gives up where that takes too long.
        began = subprocess.run([interpreter, folder / "flow.py"], cwd=folder, env=environment, capture_output=True, text=True)
        if began.returncode:
            reason = (began.stderr.strip().splitlines() or [f"exit {began.returncode}"])[-1]
            return Figure("`taskpilot run`, three steps", "-", f"Prefect: {reason[:100]}", "", None)
        pairs = in_turn(rounds, ours, theirs)
    value = f"{median(one for one, _ in pairs):.2f} s"
    peer = f"a Prefect flow ({median(other for _, other in pairs):.1f} s)"
    return ratio_figure("`taskpilot run`, three steps", value, [one / other for one, other in pairs], peer)


def _timed(work: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return timed


@contextmanager
def _peer(interpreter: Path, name: str, folder: Path) -> Iterator[Callable[[], float]]:
    """A peer's program; calling it does one round there and gives its seconds."""
    command = [str(interpreter), str(PROGRAMS), name, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    said, asked = process.stdout, process.stdin

    def answer() -> str:
        line = said.readline().strip()
        assert line, f"{name} ended"
        return line

    def once() -> float:
        asked.write("go\n")
        asked.flush()
        return float(answer())

    try:
        while answer() != "ready":
            pass
        yield once
    finally:
        process.terminate()
        process.communicate()
