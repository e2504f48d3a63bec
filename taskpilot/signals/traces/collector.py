"""Sends spans to an OpenTelemetry collector where one is there, and never waits for one that is not."""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from taskpilot.signals.bounded import Background
from taskpilot.signals.traces.file import BATCH
from taskpilot.signals.traces.span import Span

PROBE_SECONDS: Final = 0.1
"""A collector stands on this machine or near it; one that does not accept a connection in this time is taken as away."""

_LIBRARIES: Final = ("opentelemetry", "grpc", "urllib3", "requests")


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans are sent."""

    endpoint: str
    """For http/protobuf the whole URL, for grpc the server, `host:port` too."""
    protocol: str
    """`grpc` or `http/protobuf`."""
    headers: Mapping[str, str] = field(default_factory=dict)


def is_there(collector: Collector, *, seconds: float = PROBE_SECONDS) -> bool:
    """Whether something accepts a connection at the endpoint, before an exporter is imported for it."""
    try:
        parts = urlsplit(collector.endpoint if "://" in collector.endpoint else f"http://{collector.endpoint}")
        default = 443 if parts.scheme == "https" else 4317 if collector.protocol == "grpc" else 80
        address = (parts.hostname or "localhost", parts.port or default)
    except ValueError:
        return False

    def connect() -> bool:
        socket.create_connection(address, timeout=seconds).close()
        return True

    # In a thread: resolving a name has no time-out of its own.
    attempt = Background(connect)
    return attempt.wait(seconds) and attempt.value is True


def sender(collector: Collector) -> Callable[[Sequence[Span], float], bool]:
    """Imports the exporter; gives a function that sends spans within seconds and tells whether all were taken. It never raises."""
    hush()
    # Now, before anybody's clock runs: it brings the SDK.
    from taskpilot.signals.traces.sdk import readable

    make: Callable[[float], Any]
    if collector.protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        def make(seconds: float) -> Any:
            # The channel's own option: gRPC would ask the environment for a proxy.
            options: Any = (("grpc.enable_http_proxy", 0),)
            headers = tuple((key.lower(), value) for key, value in collector.headers.items())
            return GrpcExporter(
                endpoint=collector.endpoint,
                insecure=not collector.endpoint.startswith("https://"),
                headers=headers,
                timeout=seconds,
                channel_options=options,
            )
    else:
        import requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        def make(seconds: float) -> Any:
            session = requests.Session()
            session.trust_env = False
            return HttpExporter(endpoint=collector.endpoint, headers=dict(collector.headers), timeout=seconds, session=session)

    return lambda spans, seconds: _send(make, readable(spans), seconds)


def hush() -> None:
    """Keeps the exporters' own logging off stderr, where cron would mail it; a handler at the root still hears it."""
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.addHandler(logging.NullHandler())


def _send(make: Callable[[float], Any], spans: Sequence[Any], seconds: float) -> bool:
    if not spans:
        return True
    made: list[Any] = []

    def export() -> bool:
        exporter = make(seconds)
        made.append(exporter)
        return all(exporter.export(spans[start : start + BATCH]).name == "SUCCESS" for start in range(0, len(spans), BATCH))

    attempt = Background(export)
    if attempt.wait(seconds):
        return attempt.value is True
    for exporter in made:
        # Ends its waits; in a thread of its own, since closing may wait too.
        closing = Background(lambda one=exporter: one.shutdown())  # type: ignore[misc]
        with suppress(RuntimeError):
            closing.wait(0)
    return False
