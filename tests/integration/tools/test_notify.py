"""`notify` against real servers on localhost: those that answer, those that lead elsewhere, and those that never end."""

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.channels import Channel
from taskpilot.domain.errors import ToolFailed
from taskpilot.tools import invoke, notify_tool
from tests.stopwatch import own_seconds

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Hands each connection's request to `answer`, in a thread, and remembers what was asked."""

    def __init__(self, answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.failures: list[BaseException] = []
        self._answer = answer
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._talk, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(5)
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                self.requests.append(read_request(connection))
                self._answer(connection)
            except OSError as error:
                self.failures.append(error)
            finally:
                connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or b"\r\n\r\n"
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(next((line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), b"0"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@contextmanager
def serving(answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(answer, context)
    try:
        yield server
    finally:
        server.close()


def say(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def drip(prefix: bytes, *, seconds: float) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(prefix)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            connection.sendall(b"x")
            time.sleep(0.05)

    return answer


def listen(connection: socket.socket) -> None:
    connection.recv(1)


def send(url: str, *, headers: dict[str, str] | None = None, message: str = "it is done", seconds: float = 5.0) -> Any:
    spec = notify_tool({"ops": Channel(url, headers or {}), "team": Channel("http://127.0.0.1:9/")}, print, timeout_seconds=seconds)
    return invoke(spec, {"channel": "ops", "message": message})


def test_a_message_arrives_as_json_with_the_channels_headers() -> None:
    with serving(say(OK)) as server:
        assert send(f"http://127.0.0.1:{server.port}/hook?key=k", headers={"Authorization": "Bearer s"}) == "sent to ops (HTTP 200)"
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hook?key=k HTTP/1.1\r\n")
    assert b"authorization: bearer s" in head.lower()
    assert b"content-type: application/json" in head.lower()
    assert json.loads(body) == {"channel": "ops", "message": "it is done"}
    assert server.failures == []


def test_a_channel_may_have_its_own_content_type() -> None:
    with serving(say(OK)) as server:
        send(f"http://127.0.0.1:{server.port}/", headers={"Content-Type": "application/x-custom"})
    assert server.requests[0].lower().count(b"content-type:") == 1
    assert b"application/x-custom" in server.requests[0]


def test_the_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(say(OK)) as proxy, serving(say(OK)) as server:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        send(f"http://127.0.0.1:{server.port}/")
    assert (len(server.requests), len(proxy.requests)) == (1, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with serving(say(OK)) as other:
        answer = f"HTTP/1.1 {status} Go\r\nLocation: http://127.0.0.1:{other.port}/\r\nContent-Length: 0\r\n\r\n".encode()
        with serving(say(answer)) as server, pytest.raises(ToolFailed, match=f"HTTP {status}; redirects are not followed"):
            send(f"http://127.0.0.1:{server.port}/")
    assert other.requests == []


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_another_status_is_a_failure_that_names_it(status: int) -> None:
    answer = say(f"HTTP/1.1 {status} No\r\nContent-Length: 6\r\n\r\nsecret".encode())
    with serving(answer) as server, pytest.raises(ToolFailed, match=f"'ops' answered HTTP {status}") as caught:
        send(f"http://127.0.0.1:{server.port}/hidden-path")
    assert "hidden-path" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_drips_its_head_is_given_up_in_time() -> None:
    with serving(drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", seconds=4)) as server:
        began = own_seconds()
        with pytest.raises(ToolFailed, match=r"did not answer within 1\.5 s; it may or may not have received"):
            send(f"http://127.0.0.1:{server.port}/", seconds=1.5)
        assert own_seconds() - began < 3


def test_a_server_that_says_continue_for_ever_is_given_up_in_time() -> None:
    def answer(connection: socket.socket) -> None:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.01)

    with serving(answer) as server, pytest.raises(ToolFailed, match="did not answer within"):
        send(f"http://127.0.0.1:{server.port}/", seconds=0.5)


def test_a_message_given_up_during_a_slow_look_up_is_not_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    released, looked_up = threading.Event(), threading.Event()
    look_up = socket.getaddrinfo

    def slowly(*args: Any, **more: Any) -> Any:
        released.wait(10)
        looked_up.set()
        return look_up(*args, **more)

    with serving(say(OK)) as server:
        monkeypatch.setattr(socket, "getaddrinfo", slowly)
        with pytest.raises(ToolFailed, match=r"did not answer within 0\.2 s; nothing was sent"):
            send(f"http://127.0.0.1:{server.port}/", seconds=0.2)
        released.set()
        assert looked_up.wait(10)
        for thread in threading.enumerate():
            if thread.name == "taskpilot-timed-call":
                thread.join(10)
    assert [request for request in server.requests if request.strip()] == []


def test_a_server_that_never_answers_is_given_up_in_time() -> None:
    with serving(listen) as server, pytest.raises(ToolFailed, match="did not answer within"):
        send(f"http://127.0.0.1:{server.port}/", seconds=0.3)


def test_the_status_is_enough_and_a_body_without_end_is_left_alone() -> None:
    with serving(drip(b"HTTP/1.1 200 OK\r\n\r\n", seconds=4)) as server:
        began = own_seconds()
        assert send(f"http://127.0.0.1:{server.port}/") == "sent to ops (HTTP 200)"
        assert own_seconds() - began < 2


def test_of_a_huge_body_only_a_little_is_read() -> None:
    sent = 0

    def answer(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(2_000):
            sent += connection.send(b"x" * 65_536)

    with serving(answer) as server:
        assert send(f"http://127.0.0.1:{server.port}/") == "sent to ops (HTTP 200)"
    assert sent < 2_000 * 65_536
    assert server.failures


def test_a_head_without_end_is_a_failure() -> None:
    with serving(say(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000)) as server, pytest.raises(ToolFailed, match="may or may not"):
        send(f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize("answer", [b"", b"\x00\xff nonsense\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_what_is_not_http_is_a_failure(answer: bytes) -> None:
    with serving(say(answer)) as server, pytest.raises(ToolFailed, match=r"could not be reached .*may or may not"):
        send(f"http://127.0.0.1:{server.port}/")


def test_nobody_at_the_address_means_that_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ToolFailed, match=r"could not be reached \(Connection refused\); nothing was sent"):
        send(f"http://127.0.0.1:{port}/hidden")


def test_an_unknown_channel_is_answered_with_the_known_ones() -> None:
    spec = notify_tool({"ops": Channel("http://127.0.0.1:9/"), "team": Channel("http://127.0.0.1:9/")}, print)
    assert "ops, team" in spec.description
    with pytest.raises(ToolFailed, match="use one of ops, team"):
        invoke(spec, {"channel": "http://evil.example/", "message": "m"})


def test_a_message_beyond_64_kb_is_not_sent() -> None:
    with serving(say(OK)) as server:
        with pytest.raises(ToolFailed, match="nothing was sent"):
            send(f"http://127.0.0.1:{server.port}/", message="é" * 40_000)
        assert server.requests == []


@pytest.fixture(name="certificate", scope="module")
def make_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(file) + ".key", "-out", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


def secure(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, str(certificate) + ".key")
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(certificate: Path) -> None:
    with serving(say(OK), secure(certificate)) as server:
        with pytest.raises(ToolFailed, match=r"its certificate is not accepted: self.signed certificate.*nothing was sent"):
            send(f"https://localhost:{server.port}/")
        assert server.requests == []


def test_a_certificate_that_is_trusted_is_accepted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(say(OK), secure(certificate)) as server:
        assert send(f"https://localhost:{server.port}/") == "sent to ops (HTTP 200)"
        with pytest.raises(ToolFailed, match="certificate is not accepted"):
            send(f"https://127.0.0.1:{server.port}/")


def test_a_tls_handshake_that_never_comes_is_given_up_with_nothing_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = own_seconds()
        with pytest.raises(ToolFailed, match="nothing was sent"):
            send(f"https://localhost:{silent.getsockname()[1]}/", seconds=0.4)
        assert own_seconds() - began < 2
