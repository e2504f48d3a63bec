"""A server that keeps every JSON document that is posted to it: where an Alertmanager's alerts arrive."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Webhook:
    """Its address, and what it got."""

    url: str
    received: list[dict[str, Any]] = field(default_factory=list)

    @property
    def alerts(self) -> dict[str, dict[str, Any]]:
        """The newest word on each alert, by its name."""
        return {alert["labels"]["alertname"]: alert for message in list(self.received) for alert in message["alerts"]}


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Runs one until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hook = Webhook(f"http://127.0.0.1:{server.server_port}/alerts")
    server.webhook = hook  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.webhook.received.append(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: a test's output is its own."""
