"""The server's life: it listens before it says so, names what is in its way, and ends in time."""

import socket
import threading
import time
from pathlib import Path

import pytest

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.fires import SchedulerState
from taskpilot.web.dependencies import Services
from taskpilot.web.server import HttpServer
from tests.integration.web.serving import Served, make_root, serving


def server_at(deployment: Deployment, host: str, port: int) -> HttpServer:
    services = Services(
        deployment=deployment,
        now=deployment.now,
        seconds_since_tick=lambda: 0.0,
        state=lambda: SchedulerState.RUNNING,
        failure=lambda: None,
        wake=lambda: None,
    )
    return HttpServer(services, host=host, port=port)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "is in use by another process"),
        ("192.0.2.7", "not an address of this machine"),
        ("no such host", "cannot be resolved"),
    ],
)
def test_what_is_in_the_way_is_named_with_its_fix(served: Served, tmp_path: Path, host: str, said: str) -> None:
    deployment = Deployment(load(root=make_root(tmp_path / "other"), environ={}))
    with pytest.raises(ConfigurationError, match=said) as refused:
        server_at(deployment, host, served.port).start()
    assert "--port" in refused.value.one_line or "--host" in refused.value.one_line
    deployment.close()


def test_a_port_is_free_again_at_once(tmp_path: Path) -> None:
    deployment = Deployment(load(root=make_root(tmp_path), environ={}))
    first = server_at(deployment, "127.0.0.1", 0)
    first.start()
    port = int(first.url.rpartition(":")[2])
    Served(deployment, first, port).get("/livez")
    first.stop(5)
    second = server_at(deployment, "localhost", port)
    second.start()
    assert Served(deployment, second, port).get("/livez").status == 200
    second.stop(5)
    second.stop(5)
    deployment.close()


def test_a_client_that_says_nothing_does_not_hold_the_end(tmp_path: Path) -> None:
    with serving(make_root(tmp_path)) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as plug:
            plug.sendall(b"GET /livez HTTP/1.1\r\n")
            started = time.monotonic()
            served.server.stop(0.5)
            assert time.monotonic() - started < 9
        assert not [thread for thread in threading.enumerate() if thread.name == "taskpilot-http"]


def test_an_ipv6_address_is_one_of_ours(tmp_path: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    deployment = Deployment(load(root=make_root(tmp_path), environ={}))
    server = server_at(deployment, "::1", 0)
    server.start()
    assert server.url.startswith("http://[::1]:")
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("::1", port), timeout=10) as plug:
        plug.sendall(f"GET /health HTTP/1.1\r\nHost: [::1]:{port}\r\nConnection: close\r\n\r\n".encode())
        assert plug.recv(15) == b"HTTP/1.1 200 OK"
    server.stop(5)
    deployment.close()
