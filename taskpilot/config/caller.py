"""What the process that started us says in the environment: service manager and W3C Trace Context."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


def caller_traceparent(environ: Mapping[str, str] | None = None) -> str | None:
    """The caller's span by TRACEPARENT; None where it names none, or nothing that W3C Trace Context knows: no reason not to run."""
    return parse_traceparent((os.environ if environ is None else environ).get("TRACEPARENT"))


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


_SHAPE: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


def parse_traceparent(text: str | None) -> str | None:
    """The value as version 00, `00-<trace id>-<span id>-<flags>`; None where it is none: then a trace begins here.

    A version that we do not know is read as far as we know it.
    """
    found = _SHAPE.fullmatch((text or "").strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return f"00-{trace_id}-{span_id}-{flags}"
