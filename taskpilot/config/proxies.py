"""The proxy through which the model's server is reached: by the settings, else by HTTPS_PROXY and its like."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit


def proxy_of(address: str, variables: Mapping[str, str]) -> tuple[str, str] | None:
    """The proxy for an address and the variable that names it; None: no proxy. Loopback addresses have none, as in Go."""
    parts = urlsplit(address)
    host = (parts.hostname or "").lower()
    names = [f"{parts.scheme}_proxy", f"{parts.scheme}_PROXY".upper(), "all_proxy", "ALL_PROXY"]
    name = next((name for name in names if variables.get(name, "").strip()), None)
    if name is None or _is_loopback(host):
        return None
    excluded = variables.get("no_proxy") or variables.get("NO_PROXY") or ""
    if any(_matches(host, parts.port, entry) for entry in excluded.lower().replace(",", " ").split()):
        return None
    proxy = variables[name].strip()
    return (proxy if "://" in proxy else f"http://{proxy}"), name


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _matches(host: str, port: int | None, entry: str) -> bool:
    """Whether an entry of NO_PROXY means the host: `*`, a name and all below it, an address, or a network."""
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        name, _, only_port = entry.rpartition(":") if entry.rpartition(":")[2].isdecimal() else (entry, "", "")
        name = name.removeprefix("*").removeprefix(".").strip("[]")
        return entry == "*" or (bool(name) and only_port in ("", str(port)) and (host == name or host.endswith(f".{name}")))
