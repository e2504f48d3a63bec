"""Clients that send half a request, slowly or never: they end in bounded time, and probes are answered meanwhile."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from taskpilot.views import tasks
from taskpilot.web import connections
from tests.integration.web.serving import Served, make_root, serving

HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: local"
HALF_A_BODY = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12"
PROBES = ("/livez", "/readyz", "/health", "/metrics")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(make_root(tmp_path)) as server:
        yield server


def opened(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=30)


def ended(client: socket.socket) -> bool:
    """Whether the server closes the connection; what it sends before is read."""
    try:
        while client.recv(4096):
            pass
    except ConnectionResetError:
        return True
    return True


def assert_probes_answer(served: Served) -> None:
    for path in PROBES:
        # On a busy machine the store may take longer than a probe of it waits.
        answers = (served.get(path) for _ in range(5))
        assert any(reply.status == 200 for reply in answers), path


def test_half_open_connections_leave_a_place_for_probes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 20)
    with ExitStack() as stack:
        clients = [stack.enter_context(opened(served)) for _ in range(40)]
        for number, client in enumerate(clients):
            client.sendall((b"", HALF_A_HEAD, HALF_A_BODY)[number % 3])
        assert_probes_answer(served)
        # Those that have waited the longest made room.
        assert ended(clients[0])


def test_600_half_open_connections_leave_a_place_for_probes(served: Served) -> None:
    with ExitStack() as stack:
        for number in range(600):
            stack.enter_context(opened(served)).sendall((b"", HALF_A_HEAD, HALF_A_BODY)[number % 3])
        assert_probes_answer(served)


def test_requests_that_hang_leave_threads_for_probes(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, free = threading.Semaphore(0), threading.Event()

    def hangs(*_: object, **_named: object) -> list[object]:
        entered.release()
        free.wait(60)
        return []

    monkeypatch.setattr(tasks, "list_tasks", hangs)
    with ThreadPoolExecutor(60) as pool:
        for _ in range(60):
            pool.submit(served.get, "/api/v1/tasks")
        # As many as the server has threads for requests.
        assert all(entered.acquire(timeout=60) for _ in range(40))
        assert_probes_answer(served)
        free.set()


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD])
def test_a_head_has_a_time_limit(served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with opened(served) as client:
        client.sendall(sent)
        assert ended(client)


def test_a_head_that_drips_has_the_same_limit(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with opened(served) as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
        drip(client)


def drip(client: socket.socket) -> None:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        client.sendall(b"G")
        time.sleep(0.05)


def test_a_second_request_of_a_connection_has_its_own_limit(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with opened(served) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" + HALF_A_HEAD)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert ended(client)


def test_a_body_has_a_time_limit_where_nobody_reads_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    with opened(served) as client:
        client.sendall(HALF_A_BODY)
        assert ended(client)


def test_requests_above_the_limit_are_asked_to_come_again_and_probes_are_answered(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUESTS_MAX", 0)
    refused = served.get("/api/v1/runs")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert [served.get(path).status for path in PROBES] == [200] * 4
    monkeypatch.undo()
    assert served.get("/api/v1/runs").status == 200
