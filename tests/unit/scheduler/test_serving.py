"""A server's life in the main thread, from its first tick to the end of the drain; its engine and its service manager are the test's."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from taskpilot.domain.fires import SchedulerState
from taskpilot.domain.times import utc_now
from taskpilot.scheduler.clock import Clock, WakeEvent
from taskpilot.scheduler.scheduler import Scheduler
from taskpilot.scheduler.serving import DeliveryThread, Notifier, Serving
from tests.keeper import Keeper, Log
from tests.unit.scheduler.conftest import Keep


class Fleet:
    """An engine with living supervisors that end when the script says so."""

    def __init__(self, living: int = 0) -> None:
        self.living = living
        self.ready = [True]
        self.signals: list[int] = []
        self.deaf_to: set[int] = set()

    def wait_ready(self, seconds: float) -> bool:
        return self.ready.pop(0) if len(self.ready) > 1 else self.ready[0]

    def signal_all(self, number: int) -> None:
        self.signals.append(number)
        if number not in self.deaf_to:
            self.living = 0


class Manager:
    """Receives what is sent to a service manager."""

    def __init__(self, folder: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.notifier = Notifier(str(folder / "notify"))

    def heard(self) -> list[str]:
        lines: list[str] = []
        self.socket.setblocking(False)
        while True:
            try:
                lines.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return lines


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.socket.close()


class Server:
    """Everything of a server but its processes."""

    def __init__(self, keeper: Keeper, manager: Manager, *, living: int = 0, drain_seconds: float = 0.05) -> None:
        self.keeper = keeper
        self.fleet = Fleet(living)
        self.log = Log()
        self.wake_event = WakeEvent()
        self.clock = Clock(self.wake_event.set)
        self.serving = Serving(
            keeper.scheduler, self.fleet, self.clock, manager.notifier, self.log, wake_event=self.wake_event, drain_seconds=drain_seconds
        )

    def at_tick(self, number: int, action: Callable[[], object]) -> None:
        """What is to happen in the so-manieth tick from now on."""
        tick, ticks = self.keeper.scheduler.tick, [0]

        def counted() -> None:
            tick()
            ticks[0] += 1
            if ticks[0] == number:
                action()

        self.keeper.scheduler.tick = counted  # type: ignore[method-assign]


@pytest.fixture
def server(keep: Keep, manager: Manager) -> Callable[..., Server]:
    return lambda **options: Server(keep(start=False, hourly='schedule=every("1h")'), manager, **options)


def term() -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_server_that_runs_nothing_at_once(server: Callable[..., Server], manager: Manager, number: int) -> None:
    one = server(drain_seconds=60)
    before = signal.getsignal(number)
    one.serving.run(ready=lambda: signal.raise_signal(number))
    assert signal.getsignal(number) is before
    assert one.fleet.signals == []
    assert one.keeper.rows("SELECT state FROM schedulers")[0]["state"] == "stopped"
    assert one.keeper.rows("SELECT stopped_at FROM schedulers")[0]["stopped_at"] is not None
    assert manager.heard() == ["WATCHDOG=1", "READY=1\nSTATUS=scheduler running", "STOPPING=1\nSTATUS=waiting for its runs to end"]
    assert "the server has ended" in one.log.lines[-1]


def test_it_is_running_only_when_the_engine_takes_orders(server: Callable[..., Server], manager: Manager) -> None:
    one = server()
    one.fleet.ready = [False, False, True]
    states: list[SchedulerState] = []
    tick = one.keeper.scheduler.tick
    one.keeper.scheduler.tick = lambda: (states.append(one.keeper.scheduler.state), tick())[1]  # type: ignore[method-assign]
    one.serving.run(ready=term)
    assert states == [SchedulerState.STARTING, SchedulerState.STARTING, SchedulerState.RUNNING]
    assert manager.heard()[:4] == ["WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "READY=1\nSTATUS=scheduler running"]


def test_a_signal_between_the_first_answer_of_http_and_the_first_tick_ends_it_in_order(
    server: Callable[..., Server], manager: Manager
) -> None:
    one = server()
    called: list[bool] = []
    with one.serving.signals():
        term()
        one.serving.run(ready=lambda: called.append(True))
    assert called == []
    assert one.keeper.rows("SELECT state FROM schedulers")[0]["state"] == "stopped"


def test_a_signal_before_the_engine_is_ready_ends_it_too(server: Callable[..., Server], manager: Manager) -> None:
    one = server()
    one.fleet.ready = [False]
    one.at_tick(2, term)
    called: list[bool] = []
    one.serving.run(ready=lambda: called.append(True))
    assert called == []
    assert not any("READY=1" in line for line in manager.heard())


def test_runs_that_end_by_themselves_are_waited_for(server: Callable[..., Server]) -> None:
    one = server(living=2, drain_seconds=60)

    def one_ends() -> None:
        one.fleet.living -= 1
        one.wake_event.set()

    one.at_tick(2, one_ends)
    one.at_tick(3, one_ends)
    began = time.monotonic()
    one.serving.run(ready=term)
    assert one.fleet.signals == []
    assert time.monotonic() - began < 30


def test_runs_that_do_not_end_are_cancelled(server: Callable[..., Server]) -> None:
    one = server(living=2)
    one.serving.run(ready=term)
    assert one.fleet.signals == [signal.SIGTERM]
    assert any("2 runs are ended by SIGTERM" in line for line in one.log.lines)


def test_runs_that_hear_nothing_are_killed(server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    one = server(living=1)
    one.fleet.deaf_to = {signal.SIGTERM}
    monkeypatch.setattr("taskpilot.scheduler.serving._GRACE_SECONDS", 0.05)
    monkeypatch.setattr("taskpilot.scheduler.serving._KILL_SECONDS", 0.05)
    one.serving.run(ready=term)
    assert one.fleet.signals == [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL]


def test_a_second_signal_cuts_the_drain_short(server: Callable[..., Server]) -> None:
    one = server(living=1, drain_seconds=40)
    one.at_tick(2, lambda: (term(), one.wake_event.set()))
    began = time.monotonic()
    one.serving.run(ready=lambda: (term(), one.wake_event.set()))
    assert one.fleet.signals == [signal.SIGTERM]
    assert time.monotonic() - began < 30


def test_a_draining_server_claims_nothing_and_reports_its_state(server: Callable[..., Server]) -> None:
    one = server(living=1)
    seen: list[str] = []

    def an_hour_later() -> None:
        one.keeper.clock.advance(timedelta(hours=1))
        one.keeper.tick()
        seen.append(one.keeper.rows("SELECT state FROM schedulers")[0]["state"])
        one.fleet.living = 0

    one.at_tick(2, an_hour_later)
    one.serving.run(ready=lambda: (term(), one.wake_event.set()))
    assert seen == ["draining"]
    assert one.keeper.rows("SELECT * FROM fires") == []


def fires_while_served(keeper: Keeper, *, enough: int, at_most: float) -> list[float]:
    """Serves by the real time until so many fires have a run, or so many seconds are over; how late each run was made."""
    wake_event, began = WakeEvent(), [utc_now()]
    clock = Clock(wake_event.set)
    scheduler = Scheduler(keeper.deployment, keeper.engine, clock, scheduler_id=keeper.id, log=keeper.log)
    serving = Serving(scheduler, Fleet(), clock, Notifier(None), keeper.log, wake_event=wake_event, drain_seconds=0)

    def late() -> list[float]:
        since = began[0].timestamp() * 1_000_000
        rows = keeper.rows("SELECT created_at - scheduled_for AS late FROM runs WHERE scheduled_for > ? ORDER BY id", since)
        return [row["late"] / 1_000_000 for row in rows]

    def end() -> None:
        until = time.monotonic() + at_most
        while len(late()) < enough and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    ender = threading.Thread(target=end)

    def ready() -> None:
        began[0] = utc_now()
        ender.start()

    serving.run(ready=ready)
    ender.join()
    return late()


def test_fires_are_met_well_within_their_second(keep: Keep) -> None:
    keeper = keep(start=False, keeper={"clock": utc_now}, often='schedule=every("1s"), overlap="allow_all"')
    late = fires_while_served(keeper, enough=3, at_most=60)
    assert len(late) >= 3
    assert min(late) < 0.5


def test_apscheduler_is_the_only_clock(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackgroundScheduler, "start", lambda _self: None)
    keeper = keep(start=False, keeper={"clock": utc_now}, often='schedule=every("1s"), overlap="allow_all"')
    assert fires_while_served(keeper, enough=1, at_most=3.5) == []
    # The same with APScheduler's thread.
    monkeypatch.undo()
    assert fires_while_served(keeper, enough=1, at_most=60) != []


def test_sighup_reads_the_jobs_again_and_ends_nothing(server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    one = server()
    read: list[bool] = []
    files = one.keeper.scheduler._job_files
    known = files.request
    monkeypatch.setattr(files, "request", lambda *, again=False: (read.append(again), known(again=again))[1])
    one.at_tick(2, term)
    one.serving.run(ready=lambda: signal.raise_signal(signal.SIGHUP))
    assert read == [False, True]


def test_an_error_is_reported_to_the_service_manager_without_an_alarm(server: Callable[..., Server], manager: Manager) -> None:
    one = server()
    one.keeper.scheduler._presence = SimpleNamespace(check=lambda: 1 / 0)  # type: ignore[assignment]
    one.serving.run(ready=term)
    assert manager.heard()[0] == "WATCHDOG=1\nSTATUS=ZeroDivisionError: division by zero"


def test_it_knows_how_long_ago_its_last_tick_was(server: Callable[..., Server]) -> None:
    one = server()
    assert 0 <= one.serving.seconds_since_tick() < 60


def test_a_notifier_without_an_address_or_a_listener_is_quiet(tmp_path: Path) -> None:
    Notifier(None).send("READY=1")
    Notifier(str(tmp_path / "absent")).send("READY=1")


def test_a_notifier_reaches_an_abstract_socket(tmp_path: Path) -> None:
    name = f"taskpilot-test-{tmp_path.name}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(10)
        Notifier("@" + name).send("READY=1", "STATUS=scheduler running")
        assert listener.recv(100) == b"READY=1\nSTATUS=scheduler running"


def test_telemetry_pushes_at_the_start_after_a_change_and_at_the_end() -> None:
    order: list[str] = []
    pushed = threading.Semaphore(0)
    telemetry = DeliveryThread(lambda: (order.append("push"), pushed.release())[1], name="telemetry", first=lambda: order.append("first"))
    telemetry.start()
    assert pushed.acquire(timeout=20)
    telemetry.request()
    assert pushed.acquire(timeout=20)
    telemetry.stop(20)
    assert pushed.acquire(timeout=20)
    assert order == ["first", "push", "push", "push"]


def test_telemetry_continues_after_a_push_that_fails() -> None:
    pushed = threading.Semaphore(0)

    def fails() -> None:
        pushed.release()
        raise OSError("no gateway")

    telemetry = DeliveryThread(fails, name="telemetry", first=lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    telemetry.start()
    for _ in range(3):
        assert pushed.acquire(timeout=20)
        telemetry.request()
    telemetry.stop(20)


def test_a_push_that_hangs_holds_up_the_end_no_longer_than_it_may() -> None:
    let_go = threading.Event()
    telemetry = DeliveryThread(lambda: (let_go.wait(60), None)[1], name="telemetry")
    telemetry.start()
    began = time.monotonic()
    telemetry.stop(0.05)
    assert time.monotonic() - began < 20
    let_go.set()
