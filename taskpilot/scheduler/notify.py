"""Tells systemd how a server stands (sd_notify(3)); quiet where nobody listens."""

import socket
from contextlib import suppress


class Notifier:
    """Sends states to a service manager's socket; None: to nobody."""

    def __init__(self, address: str | None) -> None:
        # A leading @ is systemd's way to write an abstract socket.
        self._address = None if address is None else "\0" + address[1:] if address.startswith("@") else address

    def tell(self, *lines: str) -> None:
        """Sends lines such as `READY=1`. Never raises."""
        if self._address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(1.0)
            connection.connect(self._address)
            connection.sendall("\n".join(lines).encode())
