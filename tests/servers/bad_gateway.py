"""Bad servers: one that never answers, one that sends a byte now and then, one with a given answer."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.servers.ports import free_port


@dataclass
class BadServer:
    """Where it listens, and what it got."""

    port: int
    received: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address as a URL."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def dead() -> Iterator[BadServer]:
    """A port that refuses connections."""
    yield BadServer(free_port())


@contextmanager
def hanging() -> Iterator[BadServer]:
    """Accepts, reads, and never says a word."""

    def serve(plug: socket.socket, server: BadServer, over: threading.Event) -> None:
        while not over.is_set():
            _receive(plug, server)

    with _server(serve) as server:
        yield server


@contextmanager
def dripping() -> Iterator[BadServer]:
    """Sends one byte of an endless status line every tenth of a second: no read ever times out."""

    def serve(plug: socket.socket, server: BadServer, over: threading.Event) -> None:
        _receive(plug, server)
        plug.sendall(b"HTTP/1.1 200 O")
        while not over.wait(0.1):
            plug.sendall(b"K")

    with _server(serve) as server:
        yield server


@contextmanager
def answering(status: int, body: bytes = b"", *, headers: str = "", drip_body: bool = False) -> Iterator[BadServer]:
    """Answers every request the same; with `drip_body` the head comes at once and the body a byte at a time."""

    def serve(plug: socket.socket, server: BadServer, over: threading.Event) -> None:
        _receive(plug, server)
        length = 1_000_000 if drip_body else len(body)
        plug.sendall(f"HTTP/1.1 {status} Said\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n".encode() + body)
        while drip_body and not over.wait(0.1):
            plug.sendall(b"x")

    with _server(serve) as server:
        yield server


def _receive(plug: socket.socket, server: BadServer) -> None:
    """Reads one request whole, by its Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = plug.recv(65536)
        if not chunk:
            raise ConnectionError
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += plug.recv(65536)
    server.received.append(head + b"\r\n\r\n" + body)


@contextmanager
def _server(serve: Callable[[socket.socket, BadServer, threading.Event], None]) -> Iterator[BadServer]:
    over = threading.Event()
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = BadServer(int(listener.getsockname()[1]))
        listener.settimeout(0.05)

        def one(plug: socket.socket) -> None:
            with plug, suppress(OSError):
                plug.settimeout(0.2)
                while not over.is_set():
                    try:
                        serve(plug, server, over)
                    except TimeoutError:
                        continue
                    return

        def accept() -> None:
            while not over.is_set():
                try:
                    plug, _ = listener.accept()
                except TimeoutError:
                    continue
                except OSError:
                    return
                threads.append(threading.Thread(target=one, args=(plug,), daemon=True))
                threads[-1].start()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield server
        finally:
            over.set()
            acceptor.join(5)
            for thread in threads:
                thread.join(5)
