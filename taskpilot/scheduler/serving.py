"""The life of a server: from its first turn over every wake-up to the drain, in the main thread; told to systemd."""

import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final, Protocol

from taskpilot.domain.fires import SchedulerState
from taskpilot.scheduler.clock import Clock, WakeEvent
from taskpilot.scheduler.scheduler import Log, Scheduler


class Notifier:
    """Sends states to a service manager's socket; None: to nobody."""

    def __init__(self, address: str | None) -> None:
        # A leading @ is systemd's way to write an abstract socket.
        self._address = None if address is None else "\0" + address[1:] if address.startswith("@") else address

    def tell(self, *lines: str) -> None:
        """Sends lines such as `READY=1`. Never raises."""
        if self._address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(1.0)
            connection.connect(self._address)
            connection.sendall("\n".join(lines).encode())


_GRACE_SECONDS: Final = 15.0
"""After SIGTERM a supervisor gives its job 10 s, then kills it, then records; a second one makes it kill at once."""
_KILL_SECONDS: Final = 5.0


class Engine(Protocol):
    """Where the supervisors are."""

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
    """Turns the scheduler until a signal asks for the end: SIGTERM or SIGINT; a second one cuts the drain short. SIGHUP reads the jobs."""

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
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._scheduler = scheduler
        self._engine = engine
        self._clock = clock
        self._notifier = notifier
        self._log = log
        self._drain_seconds = drain_seconds
        self._say = say
        """For what nobody may miss, also where no log can be written: a full disk has the log on it too."""
        self._said: str | None = None
        self._wake_event = wake_event
        """Rung by any thread: something is due, in the queue, or a place is free."""
        self._asked = 0
        self._turned = time.monotonic()

    def seconds_since_turn(self) -> float:
        """How long ago the loop went round last."""
        return time.monotonic() - self._turned

    def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Returns when the drain is over. Only for the main thread. `ready` is called when the first fires can be met."""
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            while not self._asked and not self._engine.wait_ready(0.1):
                self._go_round()
            if not self._asked:
                self._scheduler.state = SchedulerState.RUNNING
                self._clock.start()
                self._go_round()
                self._notifier.tell("READY=1", "STATUS=it keeps time")
                ready()
            while not self._asked:
                self._wake_event.wait(self._scheduler.seconds_to_sleep())
                self._go_round()
            self._drain()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _go_round(self) -> None:
        self._scheduler.turn()
        self._clock.look_again()
        self._turned = time.monotonic()
        if (error := self._scheduler.error) != self._said:
            self._said = error
            self._say("it works again" if error is None else f"it cannot do its work and tries again: {error}")
        if self._scheduler.error is None:
            self._notifier.tell("WATCHDOG=1")
        else:
            # Alive and trying: systemd must not take a store that is away for a hang.
            self._notifier.tell("WATCHDOG=1", f"STATUS={self._scheduler.error}"[:500])

    def _drain(self) -> None:
        self._notifier.tell("STOPPING=1", "STATUS=it waits for its runs")
        self._clock.stop()
        self._scheduler.state = SchedulerState.DRAINING
        self._log.info(f"asked to end: no new fires; {self._engine.living} runs have {self._drain_seconds:g} s to end by themselves")
        heard = self._asked
        self._wait_for_runs(self._drain_seconds, heard)
        for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGTERM, _KILL_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
            if self._engine.living == 0:
                break
            self._log.warning(
                f"{self._engine.living} runs are ended by {number.name}; what is journaled is kept, and a retry goes on with it"
            )
            self._engine.signal_all(number)
            heard = self._asked
            self._wait_for_runs(seconds, heard)
        with suppress(Exception):
            self._scheduler.tell(SchedulerState.STOPPED)
        self._log.info("the server has ended")

    def _wait_for_runs(self, seconds: float, heard: int) -> None:
        """Until no run is left, the time is over, or another signal wants it shorter."""
        until = time.monotonic() + seconds
        while self._engine.living and self._asked == heard and (left := until - time.monotonic()) > 0:
            self._wake_event.wait(min(left, 1.0))
            self._go_round()

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._scheduler.reload()
        else:
            self._asked += 1
        self._wake_event.set()
