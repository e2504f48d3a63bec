"""What the parent process passes in the environment: the service manager's variables and W3C Trace Context."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


def process_variables() -> Mapping[str, str]:
    """The variables as they are at this moment, which a job file may read."""
    return os.environ


def caller_traceparent(environ: Mapping[str, str] | None = None) -> str | None:
    """The caller's span in TRACEPARENT; None where it is missing or not valid, which is no reason not to run."""
    return parse_traceparent((os.environ if environ is None else environ).get("TRACEPARENT"))


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """systemd, if it started this process as Type=notify."""

    notify_socket: str | None
    """The address of its socket; None: there is none."""
    watchdog_seconds: float | None
    """It stops a process that sends nothing for so long; None: it does not watch."""


def service_manager(environ: Mapping[str, str] | None = None) -> ServiceManager:
    """Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID (sd_notify(3), sd_watchdog_enabled(3))."""
    variables = os.environ if environ is None else environ
    micros = variables.get("WATCHDOG_USEC", "")
    for_us = variables.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return ServiceManager(
        notify_socket=variables.get("NOTIFY_SOCKET") or None,
        watchdog_seconds=int(micros) / 1_000_000 if for_us and micros.isdecimal() and int(micros) > 0 else None,
    )


_SHAPE: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


def parse_traceparent(text: str | None) -> str | None:
    """The value as version 00, `00-<trace id>-<span id>-<flags>`; None where it is not valid. Fields of later versions are ignored."""
    found = _SHAPE.fullmatch((text or "").strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return f"00-{trace_id}-{span_id}-{flags}"
