"""Keeps the signals that ask a supervisor to stop until it handles them; any signal ends its sleep."""

import os
import select
import signal
import time
from types import FrameType
from typing import Final, Self

_ASKING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_BOUNCE_SECONDS: Final = 0.1
"""A terminal and a wrapper (uv, a shell) often deliver one Ctrl-C twice, milliseconds apart: they count as one."""


class Interrupts:
    """From `with Interrupts() as interrupts:` on, SIGINT, SIGTERM and SIGHUP are remembered instead of ending the process.

    Only for the main thread. Put it around everything from the claim to the last line of the record, and hand it to each
    `supervise`: then no signal is lost between two attempts. SIGHUP stays ignored where it was (nohup). SIGINT does not: a
    shell without job control ignores it for each `command &`, and `kill -INT` must cancel there too.
    """

    def __init__(self) -> None:
        self.arrived: list[signal.Signals] = []
        """The signals in order; the first one is the reason for the end, a second one asks for it at once."""
        self._last = float("-inf")
        self._acknowledged = 0

    def __enter__(self) -> Self:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        self._poll = select.poll()
        self._poll.register(self._read_fd, select.POLLIN)
        self._wakeup = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        # A handler for SIGCHLD, although it does nothing: it ends the sleep, and where SIGCHLD was ignored the kernel
        # would reap our children itself and their exit statuses would be lost.
        self._before = {signal.SIGCHLD: signal.signal(signal.SIGCHLD, _nothing)}
        for number in _ASKING:
            if not (number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN):
                self._before[number] = signal.signal(number, self._note)
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, self._before)
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read_fd)
        os.close(self._write_fd)

    @property
    def first(self) -> signal.Signals | None:
        """The signal that came first."""
        return self.arrived[0] if self.arrived else None

    @property
    def unacknowledged(self) -> signal.Signals | None:
        """The first signal that is not acknowledged yet."""
        return self.arrived[self._acknowledged] if self._acknowledged < len(self.arrived) else None

    def acknowledge(self) -> None:
        """All signals so far are being handled."""
        self._acknowledged = len(self.arrived)

    def wait(self, seconds: float) -> None:
        """Sleeps until a signal arrives, a child's end included, at most so long."""
        if self._poll.poll(max(0.0, seconds) * 1000):
            try:
                while len(os.read(self._read_fd, 512)) == 512:
                    pass
            except BlockingIOError:
                pass

    def close_in_child(self) -> None:
        """For a forked child, which must not read its parent's pipe."""
        signal.set_wakeup_fd(-1)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last >= _BOUNCE_SECONDS:
            self.arrived.append(signal.Signals(number))
        self._last = now


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Must be a Python function: only then does the signal write to the pipe."""
