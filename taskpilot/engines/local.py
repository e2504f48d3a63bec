"""Starts supervisors on this host through a fork server, and starts that one again should it die."""

import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from taskpilot.domain.fires import StartOrder
from taskpilot.engines.orders import Lines, order_message, send

_ENOUGH_SECONDS: Final = 60.0
"""A fork server imports for about a second; on a busy machine for several."""


class EngineDown(Exception):
    """The fork server does not take orders at this moment; the order is to be put back."""


class LocalEngine:
    """`submit` hands an order to the fork server; what becomes of it is in the record."""

    def __init__(self, command: Sequence[str], *, on_end: Callable[[], None] = lambda: None) -> None:
        self._command = tuple(command)
        """Starts a fork server whose standard input is the connection."""
        self._on_end = on_end
        """Called when a supervisor has ended: a place may be free."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._ready = threading.Event()
        self.living = 0
        """Supervisors that the fork server has, as far as it has told."""

    def start(self) -> None:
        """Starts the fork server, without waiting for its imports. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                # A session of its own: Ctrl-C in the terminal is for the server alone.
                process = subprocess.Popen(self._command, stdin=theirs.fileno(), start_new_session=True)
            except OSError:
                ours.close()
                raise
        self._ready = threading.Event()
        self._process, self._connection, self.living = process, ours, 0
        threading.Thread(target=self._listen, args=(ours, self._ready), name="taskpilot-engine", daemon=True).start()

    def wait_ready(self, seconds: float = _ENOUGH_SECONDS) -> bool:
        """Whether the fork server takes orders, after at most so long; one that died before it did is started again."""
        if self._ready.wait(seconds):
            return True
        with self._lock, suppress(OSError):
            if self._process is not None:
                self._revive()
        return False

    def submit(self, order: StartOrder) -> None:
        """Hands over an order. Raises EngineDown."""
        with self._lock:
            try:
                self._revive()
                assert self._connection is not None
                send(self._connection, order_message(order))
            except OSError as error:
                raise EngineDown(str(error)) from error

    def signal_all(self, number: int) -> None:
        """Sends a signal to every supervisor that the fork server has."""
        with self._lock, suppress(OSError):
            if self._connection is not None:
                send(self._connection, {"signal": number})

    def stop(self) -> None:
        """Lets go of the fork server: it leaves, and supervisors that still live go on alone."""
        with self._lock:
            if self._connection is not None:
                # A listener sleeps in recv; only this wakes it.
                with suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
                self._connection.close()
                self._connection = None
            if self._process is not None:
                try:
                    self._process.wait(5)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
                self._process = None

    @property
    def pid(self) -> int | None:
        """The fork server's process, where one lives."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def _revive(self) -> None:
        if self._process is not None and self._process.poll() is None and self._connection is not None:
            return
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.start()

    def _listen(self, connection: socket.socket, ready: threading.Event) -> None:
        lines = Lines()
        with suppress(OSError, ValueError):
            while data := connection.recv(65_536):
                for message in lines.feed(data):
                    if "ready" in message:
                        ready.set()
                    if isinstance(message.get("living"), int):
                        ended = message["living"] < self.living
                        self.living = message["living"]
                        if ended:
                            self._on_end()
        with self._lock:
            orphaned = self._connection is connection and self.living > 0
            if orphaned:
                # The fork server is gone: nobody will tell of these, and nobody can signal them.
                self.living = 0
        if orphaned:
            self._on_end()
