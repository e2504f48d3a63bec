"""A real local HTTP server that speaks chat completions, well or badly, for tests and for other processes' tests."""

import argparse
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.openai_answers import EVERY_MODE, Answer, Body, error, mode_of, triage_brain


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came."""

    at: float
    """`time.monotonic()`."""
    path: str
    headers: dict[str, str]
    body: Body


class OpenAIServer:
    """The server, alive inside a `with`. `handler` may be exchanged at any time; `supports` are the structured modes that it knows.

    With a `certificate` (its file and its key's) it speaks TLS.
    """

    def __init__(
        self,
        handler: Callable[[Body], Answer] = triage_brain,
        *,
        port: int = 0,
        supports: Iterable[str] = EVERY_MODE,
        refuse_status: int = 400,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.handler = handler
        self.supports = frozenset(supports)
        self.refuse_status = refuse_status
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def requests(self) -> tuple[Seen, ...]:
        """All requests so far, in the order of their arrival."""
        with self._lock:
            return tuple(self._seen)

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The bodies of all requests so far."""
        return tuple(seen.body for seen in self.requests)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, seen: Seen) -> Answer:
        """Records the request and decides what to do with it."""
        with self._lock:
            self._seen.append(seen)
        if seen.path != "/v1/chat/completions":
            return error(404, f"no such path: {seen.path}")
        mode = mode_of(seen.body)
        if mode is not None and mode not in self.supports:
            return error(self.refuse_status, f"{mode} is not supported")
        return self.handler(seen.body)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False
    owner: OpenAIServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's.
        """Quiet."""

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", "0")))
        owner = self.server.owner
        try:
            body = json.loads(data)
        except ValueError:
            body = {}
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(owner.answer(Seen(time.monotonic(), self.path, headers, body)), owner.closing)

    def do_GET(self) -> None:
        self._send(error(404, "only POST"), self.server.owner.closing)

    def _send(self, answer: Answer, closing: threading.Event) -> None:
        if answer.delay_seconds and closing.wait(answer.delay_seconds):
            self.close_connection = True
            return
        if answer.disconnect in {"before", "reset"}:
            if answer.disconnect == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        head = [f"HTTP/1.1 {answer.status} Test", "Content-Type: application/json", f"Content-Length: {len(answer.body)}"]
        head += [f"{name}: {value}" for name, value in answer.headers]
        whole = ("\r\n".join(head) + "\r\n\r\n").encode() + answer.body
        if answer.disconnect == "amid":
            self.wfile.write(whole[: -len(answer.body) // 2])
            self.close_connection = True
        elif answer.drip_seconds:
            for byte in whole:
                self.wfile.write(bytes([byte]))
                if closing.wait(answer.drip_seconds):
                    self.close_connection = True
                    return
        else:
            self.wfile.write(whole)


def main() -> None:
    """Serves `triage_brain` until it is killed; prints the URL on its first line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=1)
    parser.add_argument("--verdict", default="APPROVE")
    parser.add_argument("--priority", default="medium")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--supports", default=",".join(sorted(EVERY_MODE)), help="structured modes, comma-separated")
    parser.add_argument("--refuse-status", type=int, default=400)
    options = parser.parse_args()
    brain = partial(triage_brain, tasks=options.tasks, verdict=options.verdict, priority=options.priority)
    server = OpenAIServer(
        lambda body: replace(brain(body), delay_seconds=options.delay),
        port=options.port,
        supports=options.supports.split(","),
        refuse_status=options.refuse_status,
    )
    with server:
        print(server.url, flush=True)  # noqa: T201 - this is how another process learns the port.
        threading.Event().wait()


if __name__ == "__main__":
    main()
