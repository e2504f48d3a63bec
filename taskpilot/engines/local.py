"""Starts supervisors on this host through a fork server, and starts that one again should it die."""

import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from taskpilot.domain.fires import StartOrder
from taskpilot.engines.orders import Lines, order_message, order_of, send

_ENOUGH_SECONDS: Final = 60.0
"""A fork server imports for about a second; on a busy machine for several."""
_APART_SECONDS: Final = 1.0
"""Between two starts of a fork server, at least: one that dies at once is no reason to do nothing else."""


class EngineDown(Exception):
    """The fork server does not take orders at this moment; the order is to be put back."""


class _ForkServer:
    """One fork server's process, and what it has told."""

    def __init__(self, process: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
        self.process = process
        self.connection = connection
        self.started_at = time.monotonic()
        self.ready = threading.Event()
        self.living = 0
        self.let_go = False
        self.unanswered: deque[StartOrder] = deque()
        """Orders that it was given and has not told of, in their order."""

    def hear(self, message: dict[str, object]) -> bool:
        """Takes notice of a message; True where it says that a supervisor has ended."""
        if "ready" in message:
            self.ready.set()
        before, living = self.living, message.get("living")
        if isinstance(living, int):
            self.living = living
        if "started" in message or "failed" in message:
            # After the number of the living: the sum is never too small.
            self.unanswered.popleft()
        return self.living < before

    def close(self) -> None:
        # A listener sleeps in recv; only this wakes it.
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class LocalEngine:
    """`submit` hands an order to the fork server; what becomes of it is in the record."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        on_end: Callable[[], None] = lambda: None,
        on_lost: Callable[[StartOrder], None] = lambda _order: None,
    ) -> None:
        self._command = tuple(command)
        """Starts a fork server whose standard input is the connection."""
        self._on_end = on_end
        """Called when a supervisor has ended: a place may be free."""
        self._on_lost = on_lost
        """Called with an order that could not be started: the store was busy, or the fork server took it along when it died."""
        self._lock = threading.Lock()
        self._server: _ForkServer | None = None

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
        self._server = _ForkServer(process, ours)
        threading.Thread(target=self._listen, args=(self._server,), name="taskpilot-engine", daemon=True).start()

    def wait_ready(self, seconds: float = _ENOUGH_SECONDS) -> bool:
        """Whether the fork server takes orders, after at most so long. One that has died is started again."""
        try:
            with self._lock:
                server = self._revive()
        except (OSError, EngineDown):
            time.sleep(min(seconds, _APART_SECONDS))
            return False
        return server.ready.wait(seconds)

    def submit(self, order: StartOrder) -> None:
        """Hands over an order. Raises EngineDown."""
        with self._lock:
            try:
                server = self._revive()
                # Before it is sent: the answer may be here before `send` is back.
                server.unanswered.append(order)
                try:
                    send(server.connection, order_message(order))
                except OSError:
                    with suppress(ValueError):
                        server.unanswered.remove(order)
                    raise
            except OSError as error:
                raise EngineDown(f"the process that starts runs is gone ({error}); another one is started") from error

    def signal_all(self, number: int) -> None:
        """Sends a signal to every supervisor that the fork server has."""
        with self._lock, suppress(OSError):
            if self._server is not None:
                send(self._server.connection, {"signal": number})

    def stop(self) -> None:
        """Lets go of the fork server: it leaves, and supervisors that still live go on alone."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.let_go = True
            server.close()
            try:
                server.process.wait(5)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()

    @property
    def living(self) -> int:
        """Supervisors that the fork server has or is about to have. Those of one that died are on their own."""
        server = self._server
        return 0 if server is None else server.living + len(server.unanswered)

    @property
    def pid(self) -> int | None:
        """The fork server's process, where one lives."""
        server = self._server
        return None if server is None or server.process.poll() is not None else server.process.pid

    def _revive(self) -> _ForkServer:
        server = self._server
        if server is None or server.process.poll() is not None:
            if server is not None:
                if time.monotonic() - server.started_at < _APART_SECONDS:
                    raise EngineDown(f"the process that starts runs ended at once, with status {server.process.returncode}")
                server.close()
            self.start()
        assert self._server is not None
        return self._server

    def _listen(self, server: _ForkServer) -> None:
        lines = Lines()
        with suppress(OSError, ValueError):
            while data := server.connection.recv(65_536):
                for message in lines.feed(data):
                    if server.hear(message):
                        self._on_end()
                    if "requeue" in message:
                        self._put_back(order_of(message["requeue"]))
        server.living = 0
        while server.unanswered:
            order = server.unanswered.popleft()
            if not server.let_go:
                self._put_back(order)
        self._on_end()

    def _put_back(self, order: StartOrder) -> None:
        # Where the store cannot be written, the order is in the queue again after LAUNCH.
        with suppress(Exception):
            self._on_lost(order)
            self._on_end()
