"""A process that imports everything once and forks a supervisor for each order: 20 ms instead of a second of imports."""

import gc
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final, NoReturn

from taskpilot.domain.errors import StoreBusy, TaskPilotError
from taskpilot.domain.fires import StartOrder
from taskpilot.domain.text import one_line
from taskpilot.engines.orders import MessageReader, order_of, send
from taskpilot.process.linux import children, set_subreaper, set_title
from taskpilot.process.tree import kill_with_group

PRELOADED: Final = (
    "openai",
    "genai_prices",
    "httpx2",
    "loguru",
    "prometheus_client",
    "regorus",
    "opentelemetry.sdk.trace",
)
"""Modules that most runs import. Not grpc: its threads do not survive a fork."""

_UNAVAILABLE: Final = 69
"""EX_UNAVAILABLE of sysexits.h, which no run ends with: the store was busy, and the order goes back into the queue."""

_OWN_HANDLERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)


def serve_orders(connection: socket.socket, start: Callable[[StartOrder], int], *, preload: Sequence[str] = PRELOADED) -> None:
    """Forks a supervisor for each order that arrives, until the server at the other end has ended; the supervisors continue.

    `start` runs in the supervisor's process and gives its exit status. Nothing is opened here that a fork would share. The server gets a
    message at each supervisor's end; its message `{"signal": n}` signals all running supervisors. The children of a killed supervisor
    become children of this process, which kills them.
    """
    for name in preload:
        # A supervisor imports again what is missing, and reports the error.
        with suppress(Exception):
            import_module(name)
    _ForkServer(connection, start).run()


class _ForkServer:
    def __init__(self, connection: socket.socket, start: Callable[[StartOrder], int]) -> None:
        self._connection = connection
        self._start = start
        self._living: dict[int, dict[str, object]] = {}
        """The supervisors, each with the message that it was started by."""
        self._read_fd, self._write_fd = os.pipe()

    def run(self) -> None:
        for end in (self._read_fd, self._write_fd):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # The server ends this process: it closes the connection.
            signal.signal(number, signal.SIG_IGN)
        set_subreaper(on=True)
        # These objects live as long as the process: a child's garbage collector would only copy their pages.
        gc.collect()
        gc.freeze()
        reader = MessageReader()
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            selector.register(self._read_fd, selectors.EVENT_READ)
            send(self._connection, {"ready": os.getpid()})
            while True:
                selector.select(5.0)
                with suppress(BlockingIOError):
                    while os.read(self._read_fd, 512):
                        pass
                self._reap()
                try:
                    data = self._connection.recv(65_536, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    continue
                except OSError:
                    return
                if not data:
                    return
                for message in reader.feed(data):
                    self._handle(message)

    def _handle(self, message: dict[str, object]) -> None:
        number = message.get("signal")
        if isinstance(number, int):
            for pid in self._living:
                # A child that is not reaped: no other process has its pid.
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            return
        order = order_of(message)
        sys.stdout.flush()
        sys.stderr.flush()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OWN_HANDLERS)
        try:
            pid = os.fork()
            if pid == 0:
                self._run_supervisor(order)
        except OSError as error:
            self._send({"failed": str(error), **message})
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._living[pid] = message
        self._send({"started": pid, "living": len(self._living)})

    def _run_supervisor(self, order: StartOrder) -> NoReturn:
        status = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in _OWN_HANDLERS:
                signal.signal(number, signal.SIG_DFL)
            self._connection.close()
            os.close(self._read_fd)
            os.close(self._write_fd)
            # A new session: Ctrl-C in the server's terminal is not for a run.
            os.setsid()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _OWN_HANDLERS)
            # The job's own process, which is forked from this one, has the title too.
            set_title(f"taskpilot {order.job}")
            status = self._start(order)
        except TaskPilotError as error:
            if isinstance(error, StoreBusy):
                # Nothing has failed: the server puts the order back and starts it when the store is free.
                status = _UNAVAILABLE
            else:
                # The order is in the queue again when LAUNCH has passed.
                sys.stderr.write(f"taskpilot: {order.job} could not be started: {one_line(error.one_line)}\n")
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        ended = False
        while self._living:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._living.clear()
                ended = True
                break
            if pid == 0:
                break
            order = self._living.pop(pid, None)
            ended = True
            if order is not None and os.waitstatus_to_exitcode(status) == _UNAVAILABLE:
                self._send({"requeue": order})
        if ended:
            self._send({"living": len(self._living)})
        self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Kills each child that is no supervisor: its supervisor was killed. Its children then become ours, and end at the next SIGCHLD."""
        for pid in (children() or frozenset()) - self._living.keys():
            kill_with_group(pid)

    def _send(self, message: dict[str, object]) -> None:
        # If the server has ended, the connection ends a moment later.
        with suppress(OSError):
            send(self._connection, message)
