"""Runs a server in the main thread, from its first tick to the drain, and reports its state to systemd."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, Protocol

from taskpilot.domain.fires import SchedulerState
from taskpilot.scheduler.clock import Clock, WakeEvent
from taskpilot.scheduler.scheduler import Log, Scheduler


class Notifier:
    """Sends states to a service manager's socket; None: sends nothing."""

    def __init__(self, address: str | None) -> None:
        # A leading @ is systemd's notation for an abstract socket.
        self._address = None if address is None else "\0" + address[1:] if address.startswith("@") else address

    def send(self, *lines: str) -> None:
        """Sends lines such as `READY=1`. Never raises."""
        if self._address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(1.0)
            connection.connect(self._address)
            connection.sendall("\n".join(lines).encode())


class DeliveryThread:
    """Calls `push` at the start, at each request and at the end. A server that hangs delays no fire.

    Errors are ignored: what was not delivered stays pending in the store, and the next push delivers it.
    """

    def __init__(self, push: Callable[[], None], *, name: str, first: Callable[[], None] = lambda: None) -> None:
        self._push = push
        self._first = first
        self._requested = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"taskpilot-{name}", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def request(self) -> None:
        """Makes it push soon."""
        self._requested.set()

    def stop(self, seconds: float) -> None:
        """Pushes once more, and waits for that so many seconds at most."""
        self._stopping.set()
        self._requested.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        with suppress(Exception):
            self._first()
        while True:
            with suppress(Exception):
                self._push()
            if self._stopping.is_set():
                return
            self._requested.wait()
            self._requested.clear()


_SETTLE_SECONDS: Final = 12.0
_GRACE_SECONDS: Final = 15.0
"""After SIGTERM a supervisor gives its job 10 s, then kills it, then records; a second SIGTERM makes it kill at once."""
_KILL_SECONDS: Final = 5.0


class Engine(Protocol):
    """Runs the supervisors."""

    @property
    def living(self) -> int:
        """Supervisors that have not ended."""
        ...

    def wait_ready(self, seconds: float) -> bool:
        """Whether it takes orders, after at most so long."""
        ...

    def signal_all(self, number: int) -> None:
        """Sends a signal to every supervisor."""
        ...


class Serving:
    """Calls the scheduler at each wake-up until SIGTERM or SIGINT; a second signal cuts the drain short. SIGHUP reads the job files."""

    def __init__(
        self,
        scheduler: Scheduler,
        engine: Engine,
        clock: Clock,
        notifier: Notifier,
        log: Log,
        *,
        wake_event: WakeEvent,
        drain_seconds: float,
        settled: Callable[[], bool] = lambda: True,
        echo: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._scheduler = scheduler
        self._engine = engine
        self._clock = clock
        self._notifier = notifier
        self._log = log
        self._drain_seconds = drain_seconds
        self._settled = settled
        """Whether the job files have been read."""
        self._echo = echo
        """Prints what a person must see even if no log can be written: the log may be on the full disk."""
        self._printed_error: str | None = None
        self._wake_event = wake_event
        """Set by any thread: something is due or in the queue, or a run has ended."""
        self._stop_signals = 0
        self._ticked_at = time.monotonic()

    def seconds_since_tick(self) -> float:
        """How long ago the last tick ended."""
        return time.monotonic() - self._ticked_at

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Remembers SIGTERM, SIGINT and SIGHUP for `run`; entered before HTTP answers, since a client that has an answer may stop us."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Returns when the drain is over. Only for the main thread. `ready` is called when runs can be started."""
        with self.signals():
            # First: what becomes due while the first tick reads the job files is a wake-up, or in that tick's claim.
            self._clock.start()
            while not self._stop_signals and not self._engine.wait_ready(0.1):
                self._tick()
            if not self._stop_signals:
                self._scheduler.state = SchedulerState.RUNNING
                self._tick()
                self._wait_for_job_files()
                self._notifier.send("READY=1", "STATUS=scheduler running")
                ready()
            while not self._stop_signals:
                self._wake_event.wait()
                self._tick()
            self._drain()

    def _wait_for_job_files(self) -> None:
        """So that who waits for the server finds its jobs. Runs start meanwhile, and a file that hangs does not hold this up for long."""
        until = time.monotonic() + _SETTLE_SECONDS
        while not self._stop_signals and not self._settled() and time.monotonic() < until:
            self._wake_event.wait(0.1)
            self._tick()

    def _tick(self) -> None:
        self._scheduler.tick()
        self._ticked_at = time.monotonic()
        error = self._scheduler.error
        if error != self._printed_error:
            self._printed_error = error
            self._echo("the scheduler works again" if error is None else f"the scheduler could not do its work and tries again: {error}")
        if error is None:
            self._notifier.send("WATCHDOG=1")
        else:
            # systemd must not restart a server whose store cannot be reached: the server continues when the store is back.
            self._notifier.send("WATCHDOG=1", f"STATUS={error}"[:500])

    def _drain(self) -> None:
        self._notifier.send("STOPPING=1", "STATUS=waiting for its runs to end")
        self._scheduler.state = SchedulerState.DRAINING
        self._log.info(f"shutting down: no new fires; {self._engine.living} runs have {self._drain_seconds:g} s to finish")
        self._wait_for_runs(self._drain_seconds)
        for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGTERM, _KILL_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
            if self._engine.living == 0:
                break
            self._log.warning(f"{self._engine.living} runs are ended by {number.name}; a retry continues from what is journaled")
            self._engine.signal_all(number)
            self._wait_for_runs(seconds)
        self._clock.stop()
        with suppress(Exception):
            self._scheduler.record_state(SchedulerState.STOPPED)
        self._log.info("the server has ended")

    def _wait_for_runs(self, seconds: float) -> None:
        """Until no run is left, the time is over, or another signal asks for a quicker end."""
        signals, until = self._stop_signals, time.monotonic() + seconds
        while self._engine.living and self._stop_signals == signals and (left := until - time.monotonic()) > 0:
            self._wake_event.wait(left)
            self._tick()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._scheduler.reload()
        else:
            self._stop_signals += 1
        self._wake_event.set()
