"""A fork server in a process of its own, and what becomes of the orders that it cannot carry out."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskpilot.domain.fires import StartOrder
from taskpilot.engines.local import EngineDown, LocalEngine
from tests.acceptance.kills.processes import alive, eventually

PROGRAM = """
import os, socket, sys, time
from taskpilot.domain.errors import StoreBusy, StoreError
from taskpilot.engines.fork_server import serve_orders


def start(order):
    with open(sys.argv[1], "ab", buffering=0) as file:
        file.write(f"{order.run_id} {os.getpid()}\\n".encode())
    if order.job == "busy":
        raise StoreBusy("somebody has it")
    if order.job == "broken":
        raise StoreError("it is gone")
    while order.job == "long":
        time.sleep(0.01)
    return 0


sys.stderr = open(sys.argv[1] + ".said", "a")
with socket.socket(fileno=0) as connection:
    serve_orders(connection, start, preload=())
"""


class Local:
    """An engine, the orders that it gave back, and how often it told of an end."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.given_back: list[StartOrder] = []
        self.rung = threading.Event()
        command = (sys.executable, "-c", PROGRAM, str(self.notes))
        self.engine = LocalEngine(command, on_end=self.rung.set, on_lost=self.given_back.append)

    def started(self) -> list[tuple[str, int]]:
        """What was started: run ids and pids."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    one = Local(tmp_path)
    one.engine.start()
    assert one.engine.wait_ready()
    yield one
    for _run, pid in one.started():
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    one.engine.stop()


def order(job: str, run_id: str = "1") -> StartOrder:
    return StartOrder(job, run_id=run_id)


def fork_server(local: Local) -> int:
    assert local.engine.pid is not None
    return local.engine.pid


@contextmanager
def stopped(pid: int) -> Iterator[Callable[[], None]]:
    """A process that stands still inside the block; gives what kills it there."""
    os.kill(pid, signal.SIGSTOP)
    yield lambda: os.kill(pid, signal.SIGKILL)


def test_an_order_counts_as_living_from_the_moment_that_it_is_given(local: Local) -> None:
    local.engine.submit(order("long"))
    assert local.engine.living == 1
    assert eventually(local.started)
    local.engine.signal_all(signal.SIGKILL)
    assert eventually(lambda: local.engine.living == 0)
    assert local.rung.is_set()
    assert local.given_back == []


def test_what_meets_a_busy_store_is_given_back_at_once_and_what_meets_a_broken_one_is_not(local: Local) -> None:
    local.engine.submit(order("broken", "1"))
    local.engine.submit(order("busy", "2"))
    assert eventually(lambda: local.given_back)
    assert local.given_back == [order("busy", "2")]
    assert eventually(lambda: local.engine.living == 0)
    said = Path(f"{local.notes}.said").read_text().splitlines()
    assert sorted(said) == ["taskpilot: broken could not be started: it is gone", "taskpilot: busy could not be started: somebody has it"]


def test_orders_that_a_killed_fork_server_had_not_begun_are_given_back(local: Local) -> None:
    local.engine.submit(order("long", "1"))
    assert eventually(local.started)
    with stopped(fork_server(local)) as kill:
        local.engine.submit(order("long", "2"))
        local.engine.submit(order("long", "3"))
        assert local.engine.living == 3
        kill()
    assert eventually(lambda: len(local.given_back) == 2)
    assert local.given_back == [order("long", "2"), order("long", "3")]
    # The one that it had started lives, and is nobody's to wait for.
    assert local.engine.living == 0
    [(_, supervisor)] = local.started()
    assert alive(supervisor)


def test_a_fork_server_that_dies_is_replaced(local: Local) -> None:
    before = fork_server(local)
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: local.engine.pid is None)
    assert eventually(local.engine.wait_ready)
    assert fork_server(local) != before
    local.engine.submit(order("short"))
    assert eventually(local.started)


def test_one_that_dies_at_once_is_not_started_again_and_again(tmp_path: Path) -> None:
    engine = LocalEngine((sys.executable, "-c", "raise SystemExit(3)"))
    engine.start()
    assert eventually(lambda: engine.pid is None)
    with pytest.raises(EngineDown, match="ended at once, with status 3"):
        engine.submit(order("short"))
    engine.stop()
