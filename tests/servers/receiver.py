"""A receiver of webhooks and pings that checks signatures, counts by idempotency key, and can be away, slow or unwilling."""

import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Receiver:
    """Its address, what it answers, and what it got."""

    port: int
    secret: str = "hush-hush-1234"
    status: int = 200
    hang: float = 0.0
    """Seconds before it answers."""
    drop: bool = False
    """It takes each request and closes the connection without an answer."""
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    """The idempotency key of each accepted POST."""
    signed: list[bool] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def once(self) -> list[dict[str, Any]]:
        """The bodies by their keys, each once, in the order in which they came first."""
        return list(dict(reversed(list(zip(self.keys, self.bodies, strict=True)))).values())[::-1]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Runs one until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    made = Receiver(server.server_port)
    server.receiver = made  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self) -> None:
        self._answer(None)

    def _answer(self, body: bytes | None) -> None:
        made: Receiver = self.server.receiver  # type: ignore[attr-defined]
        time.sleep(made.hang)
        with made.lock:
            made.paths.append(self.path)
            if body is not None and made.status < 300:
                made.bodies.append(json.loads(body))
                made.keys.append(self.headers.get("Idempotency-Key", ""))
                made.signed.append(self._is_signed(made.secret, body))
        if made.drop:
            self.close_connection = True
            return
        self.send_response(made.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _is_signed(self, secret: str, body: bytes) -> bool:
        fields = dict(part.split("=", 1) for part in self.headers.get("TaskPilot-Signature", "t=0,v1=").split(","))
        wanted = hmac.new(secret.encode(), fields["t"].encode() + b"." + body, "sha256").hexdigest()
        return abs(time.time() - int(fields["t"])) < 300 and hmac.compare_digest(fields["v1"], wanted)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: a test's output is its own."""
