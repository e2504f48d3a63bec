"""Ports for servers that a test starts."""

import os
import socket
from itertools import cycle

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_PORTS = cycle(range(20_000 + _WORKER % 12 * 1_000 + os.getpid() % 1_000, 32_700))


def free_port() -> int:
    """The number of a free TCP port on 127.0.0.1, below those that the system gives away, and not one that another worker chooses."""
    for port in _PORTS:
        with socket.socket() as plug:
            try:
                plug.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
