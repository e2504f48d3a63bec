"""What a service manager tells a server by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """systemd, where it started us as Type=notify."""

    notify_socket: str | None
    """The address of its socket; None: nobody listens."""
    watchdog_seconds: float | None
    """It ends us where it hears nothing for so long; None: it does not watch."""


def service_manager(environ: Mapping[str, str] | None = None) -> ServiceManager:
    """What NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID say (sd_notify(3), sd_watchdog_enabled(3))."""
    variables = os.environ if environ is None else environ
    micros = variables.get("WATCHDOG_USEC", "")
    meant = variables.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return ServiceManager(
        notify_socket=variables.get("NOTIFY_SOCKET") or None,
        watchdog_seconds=int(micros) / 1_000_000 if meant and micros.isdecimal() and int(micros) > 0 else None,
    )
