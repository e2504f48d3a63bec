"""Sends spans to an OpenTelemetry collector where one accepts connections, and never waits for one that does not."""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from taskpilot.domain.text import one_line
from taskpilot.http import Deadline, TimedCall, Unanswered, exchange
from taskpilot.telemetry.traces.file import BATCH
from taskpilot.telemetry.traces.span import Span, batches

PROBE_SECONDS: Final = 0.1
"""A collector is on this machine or near it; one that does not accept a connection in this time counts as unreachable."""

_LIBRARIES: Final = ("opentelemetry", "grpc")
_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_REFUSED_STATUS: Final = frozenset({400, 413, 422})
"""The request itself is wrong. Other errors (no such path, no access, overload) can be fixed there, and the spans stay pending."""


class ExportResult(StrEnum):
    """The result of sending spans."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """The collector will never accept them: OTLP forbids to send them again."""
    UNREACHABLE = "unreachable"
    """The collector has none of them, for sure: they may be sent again at once."""
    UNKNOWN = "unknown"
    """No answer came: the collector may have them, or get them later."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A collector's answer."""

    result: ExportResult
    rejected: int = 0
    """Accepted spans that the collector did not keep: OTLP's partial success."""
    message: str = ""
    """What the collector answered, or what went wrong; untrusted, on one line."""


Send = Callable[[Sequence[Span], float], Reply]
"""Sends spans within so many seconds; never raises."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans are sent."""

    endpoint: str
    """For http/protobuf the whole URL, for grpc the server, `host:port` too."""
    protocol: str
    """`grpc` or `http/protobuf`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    certificate: Path | None = None
    """PEM file of the certificates to trust at an https endpoint; None: those of the system."""


def is_there(collector: Collector, *, seconds: float = PROBE_SECONDS) -> bool:
    """Whether something accepts a connection at the endpoint, before anything is imported for it."""
    try:
        parts = urlsplit(collector.endpoint if "://" in collector.endpoint else f"http://{collector.endpoint}")
        default = 443 if parts.scheme == "https" else 4317 if collector.protocol == "grpc" else 80
        address = (parts.hostname or "localhost", parts.port or default)
    except ValueError:
        return False

    def connect() -> bool:
        socket.create_connection(address, timeout=seconds).close()
        return True

    # In a thread: resolving a name has no timeout.
    attempt = TimedCall(connect)
    return attempt.wait(seconds) and attempt.value is True


def sender(collector: Collector) -> Send:
    """Imports what sending needs, before a deadline begins; gives a function that sends spans."""
    silence_libraries()
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    from taskpilot.telemetry.traces.sdk import readable

    post = _grpc(collector) if collector.protocol == "grpc" else _http(collector)

    def send(spans: Sequence[Span], seconds: float) -> Reply:
        deadline = Deadline(seconds)
        rejected, message = 0, ""
        for batch in batches(spans, BATCH):
            try:
                request = encode_spans(readable(batch))
            except Exception as error:
                # What cannot be encoded now cannot be encoded later.
                return Reply(ExportResult.REFUSED, rejected, _describe(error))
            try:
                reply = post(request, deadline.left)
            except Exception as error:
                reply = Reply(ExportResult.UNREACHABLE, message=_describe(error))
            if reply.result is not ExportResult.ACCEPTED:
                return Reply(reply.result, rejected, reply.message)
            rejected, message = rejected + reply.rejected, message or reply.message
        return Reply(ExportResult.ACCEPTED, rejected, message)

    return send


def silence_libraries() -> None:
    """Keeps the libraries' own logging off stderr, where cron would mail it; a handler at the root logger still gets it."""
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            logger.addHandler(logging.NullHandler())


def _http(collector: Collector) -> Callable[[Any, float], Reply]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    headers = {**collector.headers, "Content-Type": "application/x-protobuf"}

    def post(request: Any, seconds: float) -> Reply:
        try:
            answer = exchange(
                "POST",
                collector.endpoint,
                seconds=seconds,
                body=request.SerializeToString(),
                headers=headers,
                ca_file=collector.certificate,
            )
        except Unanswered as error:
            return Reply(ExportResult.UNKNOWN if error.late else ExportResult.UNREACHABLE, message=str(error))
        if answer.success:
            response = ExportTraceServiceResponse()
            # An answer in JSON, or an empty one, names no rejected span.
            with suppress(Exception):
                response.ParseFromString(answer.body)
            return _accepted(response)
        result = (
            ExportResult.REFUSED if answer.status in _REFUSED_STATUS else ExportResult.UNKNOWN if answer.late else ExportResult.UNREACHABLE
        )
        return Reply(result, message=f"it answered {answer.status}")

    return post


def _grpc(collector: Collector) -> Callable[[Any, float], Reply]:
    import grpc  # type: ignore[import-untyped]
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

    scheme, _, place = collector.endpoint.rpartition("://")
    target = place.partition("/")[0]
    metadata = tuple((key.lower(), value) for key, value in collector.headers.items())
    # The channel's own option: gRPC would ask the environment for a proxy.
    options = (("grpc.enable_http_proxy", 0),)
    refused = grpc.StatusCode.INVALID_ARGUMENT

    def call(request: Any, seconds: float) -> Reply:
        if scheme == "https":
            roots = None if collector.certificate is None else collector.certificate.read_bytes()
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), options)
        else:
            channel = grpc.insecure_channel(target, options)
        opened.append(channel)
        export = channel.unary_unary(
            _EXPORT,
            request_serializer=ExportTraceServiceRequest.SerializeToString,
            response_deserializer=ExportTraceServiceResponse.FromString,
        )
        try:
            return _accepted(export(request, timeout=seconds, metadata=metadata))
        except grpc.RpcError as error:
            code = error.code()
            result = (
                ExportResult.REFUSED
                if code is refused
                else ExportResult.UNKNOWN
                if code is grpc.StatusCode.DEADLINE_EXCEEDED
                else ExportResult.UNREACHABLE
            )
            return Reply(result, message=one_line(f"it answered {code.name}: {error.details()}", limit=200))
        finally:
            channel.close()

    opened: list[Any] = []

    def post(request: Any, seconds: float) -> Reply:
        opened.clear()
        attempt = TimedCall(lambda: call(request, seconds))
        if attempt.wait(seconds):
            return attempt.value or Reply(ExportResult.UNREACHABLE, message=_describe(attempt.error))
        for channel in opened:
            # Ends its waits; in another thread, since closing may wait too.
            with suppress(RuntimeError):
                TimedCall(channel.close).wait(0)
        return Reply(ExportResult.UNKNOWN, message=f"no answer within {seconds:.1f} s")

    return post


def _describe(error: BaseException | None) -> str:
    return one_line(f"{type(error).__name__}: {error}")


def _accepted(response: Any) -> Reply:
    partial = response.partial_success
    return Reply(ExportResult.ACCEPTED, max(0, partial.rejected_spans), one_line(partial.error_message, limit=200))
