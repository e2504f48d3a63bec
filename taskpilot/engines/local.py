"""Starts supervisors on this host through a fork server; a fork server that died is started again."""

import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from taskpilot.domain.errors import StoreBusy
from taskpilot.domain.fires import StartOrder
from taskpilot.engines.orders import MessageReader, order_message, order_of, send

_READY_SECONDS: Final = 60.0
"""A fork server imports for about a second; on a busy machine for several."""
_REQUEUE_TRIES: Final = 6
"""Each waits up to 5 s for a locked store: together as long as LAUNCH."""
_RESTART_SECONDS: Final = 1.0
"""At least this long between two starts of a fork server: one that dies at once must not be started in a tight loop."""


class EngineDown(Exception):
    """The fork server takes no orders at this moment; the order goes back into the queue."""


class _ForkServer:
    """One fork server's process, and the state of its messages."""

    def __init__(self, process: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
        self.process = process
        self.connection = connection
        self.started_at = time.monotonic()
        self.ready = threading.Event()
        self.living = 0
        self.stopping = False
        self.unconfirmed: deque[StartOrder] = deque()
        """Orders that it was sent and has not confirmed, in their order."""

    def handle(self, message: dict[str, object]) -> bool:
        """Handles a message; True where a supervisor has ended."""
        if "ready" in message:
            self.ready.set()
        before, living = self.living, message.get("living")
        if isinstance(living, int):
            self.living = living
        if "started" in message or "failed" in message:
            # After the number of living supervisors: the sum of the two is never too small.
            self.unconfirmed.popleft()
        return self.living < before

    def close(self) -> None:
        # The listening thread sleeps in recv; only this wakes it.
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()


class LocalEngine:
    """`submit` hands an order to the fork server; the result is in the store."""

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
        """Called when a supervisor has ended: another run may start."""
        self._on_lost = on_lost
        """Called with an order that was not started: the store was busy, or the fork server died."""
        self._lock = threading.Lock()
        self._server: _ForkServer | None = None

    def start(self) -> None:
        """Starts the fork server, without waiting for its imports. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                # A new session: Ctrl-C in the terminal is for the server alone.
                process = subprocess.Popen(self._command, stdin=theirs.fileno(), start_new_session=True)
            except OSError:
                ours.close()
                raise
        self._server = _ForkServer(process, ours)
        threading.Thread(target=self._listen, args=(self._server,), name="taskpilot-engine", daemon=True).start()

    def wait_ready(self, seconds: float = _READY_SECONDS) -> bool:
        """Whether the fork server takes orders, after at most so long. One that has died is started again."""
        try:
            with self._lock:
                server = self._revive()
        except (OSError, EngineDown):
            time.sleep(min(seconds, _RESTART_SECONDS))
            return False
        return server.ready.wait(seconds)

    def submit(self, order: StartOrder) -> None:
        """Hands over an order. Raises EngineDown."""
        with self._lock:
            try:
                server = self._revive()
                # Before it is sent: the answer may arrive before `send` returns.
                server.unconfirmed.append(order)
                try:
                    send(server.connection, order_message(order))
                except OSError:
                    with suppress(ValueError):
                        server.unconfirmed.remove(order)
                    raise
            except OSError as error:
                raise EngineDown(f"the process that starts runs has ended ({error}); another one is started") from error

    def signal_all(self, number: int) -> None:
        """Sends a signal to every supervisor that the fork server has."""
        with self._lock, suppress(OSError):
            if self._server is not None:
                send(self._server.connection, {"signal": number})

    def stop(self) -> None:
        """Ends the fork server; supervisors that still run continue without it."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.stopping = True
            server.close()
            try:
                server.process.wait(5)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()

    @property
    def living(self) -> int:
        """Supervisors that the fork server runs or is about to start; not those of a former fork server."""
        server = self._server
        return 0 if server is None else server.living + len(server.unconfirmed)

    @property
    def pid(self) -> int | None:
        """The pid of the fork server; None where it does not run."""
        server = self._server
        return None if server is None or server.process.poll() is not None else server.process.pid

    def _revive(self) -> _ForkServer:
        server = self._server
        if server is None or server.process.poll() is not None:
            if server is not None:
                if time.monotonic() - server.started_at < _RESTART_SECONDS:
                    raise EngineDown(f"the process that starts runs ended at once, with status {server.process.returncode}")
                server.close()
            self.start()
        assert self._server is not None
        return self._server

    def _listen(self, server: _ForkServer) -> None:
        reader = MessageReader()
        with suppress(OSError, ValueError):
            while data := server.connection.recv(65_536):
                for message in reader.feed(data):
                    if server.handle(message):
                        self._on_end()
                    if "requeue" in message:
                        self._requeue(order_of(message["requeue"]))
        server.living = 0
        while server.unconfirmed:
            order = server.unconfirmed.popleft()
            if not server.stopping:
                self._requeue(order)
        self._on_end()

    def _requeue(self, order: StartOrder) -> None:
        # Each try waits for a locked store. An order that cannot be put back is in the queue again after LAUNCH.
        for _ in range(_REQUEUE_TRIES):
            try:
                self._on_lost(order)
            except StoreBusy:
                continue
            except Exception:
                break
            self._on_end()
            break
