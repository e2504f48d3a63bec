"""A port that nobody listens on."""

import socket


def free_port() -> int:
    """The number of a free TCP port on 127.0.0.1."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])
