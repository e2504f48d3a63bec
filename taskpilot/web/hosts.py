"""Which hosts this server answers for: a page of a stranger's name that resolves to us gets nothing."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""What a monitor needs: answered on every address, with and without a token."""
CONTAINER_HOST: Final = "host.docker.internal"
"""How a Prometheus in a container calls the machine that it runs on."""

_ALWAYS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names of this server."""

    name: str
    """What it was told to listen on: a name or an address."""
    address: str
    """The address that it listens on."""

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(self.address).is_loopback

    def knows(self, header: str, *, path: str, local_address: str | None) -> bool:
        """Whether a Host header names us. The address that the connection came in at is ours too: a stranger's name is never an address."""
        found = _HOST.fullmatch(header.lower())
        if found is None:
            return False
        name = found[1]
        own = {in_url(self.name.lower())} | ({in_url(_plain(local_address))} if local_address else set())
        return name in _ALWAYS or name in own or (name == CONTAINER_HOST and path in OPEN_PATHS)


def in_url(host: str) -> str:
    """The host as a URL has it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _plain(address: str) -> str:
    """An IPv4 address that a socket for both families gives as an IPv6 one, as people write it."""
    try:
        return str(getattr(ip_address(address), "ipv4_mapped", None) or address)
    except ValueError:
        return address
