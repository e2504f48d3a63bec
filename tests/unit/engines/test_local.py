"""Supervisors by a real fork server, whose supervisors do what the name of their job says."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taskpilot.domain.fires import StartOrder
from taskpilot.engines.local import EngineDown, LocalEngine

SECONDS = 60.0
"""The machine may be busy; nothing here is waited for longer than it takes."""
SERVER = f"""
import os, signal, socket, sys, time

sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from taskpilot.domain.errors import StoreBusy, StoreError
from taskpilot.engines.fork_server import serve_orders

folder = sys.argv[1]


def start(order):
    if order.job == "raises":
        raise SystemError("a supervisor that fails")
    if order.job == "busy":
        raise StoreBusy("another process has it")
    if order.job == "broken":
        raise StoreError("it is gone")
    if order.job == "waits":
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    with open(f"{{folder}}/{{order.job}}.{{os.getpid()}}.new", "w") as file:
        file.write(f"{{os.getsid(0)}} {{order.scheduled_for}} {{order.run_id}}")
    os.rename(file.name, file.name.removesuffix(".new"))
    while order.job == "waits":
        time.sleep(60)
    return 0


with socket.socket(fileno=0) as connection:
    serve_orders(connection, start, preload=("json", "no_such_module"))
"""


class Yard:
    """A fork server, and the marks that its supervisors left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "server.py").write_text(SERVER)
        self.ended = threading.Semaphore(0)
        self.lost: list[StartOrder] = []
        command = [sys.executable, str(folder / "server.py"), str(folder)]
        self.engine = LocalEngine(command, on_end=self.ended.release, on_lost=self.lost.append)

    def marks(self, job: str) -> dict[int, str]:
        """What each supervisor of a job wrote, by its pid."""
        return {int(path.suffix[1:]): path.read_text() for path in self.folder.glob(f"{job}.*") if path.suffix[1:].isdigit()}

    def wait_for(self, job: str, number: int = 1) -> list[int]:
        """The supervisors of a job, when there are so many."""
        wait_until(lambda: len(self.marks(job)) >= number)
        return list(self.marks(job))

    def takes(self, order: StartOrder) -> bool:
        """Whether the engine takes an order."""
        try:
            self.engine.submit(order)
        except EngineDown:
            return False
        return True


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def lives(pid: int) -> bool:
    """Whether it runs; one that has ended and is not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    made.engine.stop()
    for pid in made.marks("waits"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_an_order_becomes_a_supervisor_in_its_own_session_and_its_end_is_reported(yard: Yard) -> None:
    yard.engine.start()
    assert yard.engine.wait_ready(SECONDS)
    yard.engine.submit(StartOrder("short", datetime(2026, 11, 23, 7, tzinfo=UTC)))
    yard.engine.submit(StartOrder("short", run_id="one"))
    assert yard.ended.acquire(timeout=SECONDS)
    pids = yard.wait_for("short", 2)
    wait_until(lambda: yard.engine.living == 0)
    marks = sorted(text.split(" ", 1)[1] for text in yard.marks("short").values())
    assert marks == ["2026-11-23 07:00:00+00:00 None", "None one"]
    assert {int(text.split()[0]) for text in yard.marks("short").values()} == set(pids)
    assert yard.engine.pid not in pids


def test_orders_that_come_before_it_is_ready_are_kept(yard: Yard) -> None:
    yard.engine.start()
    yard.engine.submit(StartOrder("short"))
    yard.wait_for("short")


def test_a_supervisor_that_raises_harms_no_other(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    yard.engine.start()
    yard.engine.submit(StartOrder("raises"))
    assert yard.ended.acquire(timeout=SECONDS)
    yard.engine.submit(StartOrder("short"))
    yard.wait_for("short")
    assert "SystemError: a supervisor that fails" in capfd.readouterr().err


def test_what_meets_a_busy_store_is_given_back_and_what_meets_a_broken_one_is_not(yard: Yard, capfd: pytest.CaptureFixture[str]) -> None:
    yard.engine.start()
    for job in ("broken", "busy"):
        yard.engine.submit(StartOrder(job))
    wait_until(lambda: yard.lost != [] and yard.engine.living == 0)
    assert yard.lost == [StartOrder("busy")]
    assert capfd.readouterr().err.splitlines() == ["taskpilot: broken could not be started: it is gone"]


def test_one_that_dies_at_once_is_not_started_again_and_again() -> None:
    engine = LocalEngine((sys.executable, "-c", "raise SystemExit(3)"))
    engine.start()
    wait_until(lambda: engine.pid is None)
    with pytest.raises(EngineDown, match="ended at once, with status 3"):
        engine.submit(StartOrder("short"))
    engine.stop()


def test_a_signal_reaches_every_supervisor(yard: Yard) -> None:
    yard.engine.start()
    for _ in range(3):
        yard.engine.submit(StartOrder("waits"))
    pids = yard.wait_for("waits", 3)
    wait_until(lambda: yard.engine.living == 3)
    yard.engine.signal_all(signal.SIGTERM)
    wait_until(lambda: yard.engine.living == 0)
    assert not any(map(lives, pids))


def test_a_killed_fork_server_is_started_again_and_its_supervisors_live_on(yard: Yard) -> None:
    yard.engine.start()
    yard.engine.submit(StartOrder("waits"))
    [waits] = yard.wait_for("waits")
    wait_until(lambda: yard.engine.living == 1)
    first = yard.engine.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: yard.engine.pid is None)
    # Not at once where it ran for less than a second: the caller keeps the order.
    wait_until(lambda: yard.takes(StartOrder("short")))
    yard.wait_for("short")
    assert yard.engine.pid not in (None, first)
    assert lives(waits)


def test_supervisors_of_a_fork_server_that_died_are_not_waited_for(yard: Yard) -> None:
    yard.engine.start()
    yard.engine.submit(StartOrder("waits"))
    yard.wait_for("waits")
    wait_until(lambda: yard.engine.living == 1)
    assert yard.engine.pid is not None
    os.kill(yard.engine.pid, signal.SIGKILL)
    wait_until(lambda: yard.engine.living == 0)
    assert yard.ended.acquire(timeout=SECONDS)


def test_an_order_that_a_fork_server_took_with_it_is_given_back(yard: Yard) -> None:
    yard.engine.start()
    server = yard.engine.pid
    assert server is not None
    os.kill(server, signal.SIGSTOP)
    yard.engine.submit(StartOrder("short"))
    assert yard.engine.living == 1
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: yard.lost == [StartOrder("short")])
    assert yard.engine.living == 0


def test_one_that_died_before_it_was_ready_is_started_again(yard: Yard) -> None:
    yard.engine.start()
    assert yard.engine.pid is not None
    os.kill(yard.engine.pid, signal.SIGKILL)
    wait_until(lambda: yard.engine.wait_ready(0.1))
    yard.engine.submit(StartOrder("short"))
    yard.wait_for("short")


def test_the_end_of_the_server_ends_the_fork_server_and_no_supervisor(yard: Yard) -> None:
    yard.engine.start()
    yard.engine.submit(StartOrder("waits"))
    [waits] = yard.wait_for("waits")
    server = yard.engine.pid
    assert server is not None
    yard.engine.stop()
    assert not lives(server)
    assert lives(waits)
    yard.engine.stop()


def test_signals_of_a_terminal_do_not_reach_the_fork_server(yard: Yard) -> None:
    yard.engine.start()
    assert yard.engine.wait_ready(SECONDS)
    server = yard.engine.pid
    assert server is not None
    assert os.getsid(server) != os.getsid(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(server, number)
    yard.engine.submit(StartOrder("short"))
    yard.wait_for("short")
    assert yard.engine.pid == server


def test_a_command_that_cannot_be_started_is_an_engine_that_is_down(tmp_path: Path) -> None:
    engine = LocalEngine([str(tmp_path / "no-such-program")])
    with pytest.raises(EngineDown, match="no-such-program"):
        engine.submit(StartOrder("short"))
    engine.signal_all(signal.SIGTERM)
    engine.stop()
