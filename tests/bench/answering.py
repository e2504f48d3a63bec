"""A server that takes every request and says 200 to it, or reads and never says a word; `python -m tests.bench.answering [--hang]`."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        if "--hang" in sys.argv:
            threading.Event().wait()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_POST  # noqa: N815 - the name is the standard library's.

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's.
        """Quiet."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)  # noqa: T201 - this is how another process learns the port.
    server.serve_forever()
