"""A local OTLP receiver, over gRPC or HTTP with protobuf, that keeps the spans it gets, or gives a set answer."""

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceServicer, add_TraceServiceServicer_to_server


@dataclass
class Received:
    """Where it listens, what it got, and how it answers."""

    endpoint: str = ""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    rejects: int = 0
    """Spans of each request that it takes and throws away."""
    refuses: str | None = None
    """A request that holds a span of this name is malformed to it, and not kept."""
    after: int | None = None
    """So many requests are taken; the later ones are answered as by a server that is too busy."""

    @property
    def spans(self) -> list[Any]:
        """All spans, in the order of their coming."""
        return [span for request in self.requests for span in spans_in(request)]

    @property
    def is_busy(self) -> bool:
        """Whether it takes no more."""
        return self.after is not None and len(self.requests) >= self.after

    def finds_fault(self, request: ExportTraceServiceRequest) -> bool:
        """Whether the request is malformed to it."""
        return self.refuses is not None and self.refuses in {span.name for span in spans_in(request)}

    def response(self) -> ExportTraceServiceResponse:
        """Its answer to what it takes."""
        answer = ExportTraceServiceResponse()
        if self.rejects:
            answer.partial_success.rejected_spans = self.rejects
            answer.partial_success.error_message = "too old"
        return answer


def spans_in(request: ExportTraceServiceRequest) -> list[Any]:
    """The spans of one request."""
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


@contextmanager
def grpc_collector(certificate: tuple[Path, Path] | None = None) -> Iterator[Received]:
    """Runs a gRPC receiver until the block ends. With a `certificate` (its file and its key's) it speaks TLS."""
    received = Received()

    class Service(TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802  gRPC's name
            if received.is_busy:
                context.abort(grpc.StatusCode.UNAVAILABLE, "too busy")
            if received.finds_fault(request):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "malformed")
            received.requests.append(request)
            received.headers.append({key: str(value) for key, value in context.invocation_metadata()})
            return received.response()

    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]
    if certificate is None:
        received.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    else:
        chain, key = certificate
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), chain.read_bytes())])
        received.endpoint = f"https://localhost:{server.add_secure_port('127.0.0.1:0', credentials)}"
    server.start()
    try:
        yield received
    finally:
        server.stop(None).wait(5)


@contextmanager
def http_collector(certificate: tuple[Path, Path] | None = None) -> Iterator[Received]:
    """Runs a receiver for POST /v1/traces until the block ends. With a `certificate` it speaks TLS."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/traces":
                self._answer(404)
            elif received.is_busy:
                self._answer(503)
            elif received.finds_fault(request):
                self._answer(400)
            else:
                received.requests.append(request)
                received.headers.append({key.lower(): value for key, value in self.headers.items()})
                self._answer(200, received.response().SerializeToString())

        def _answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        scheme, host = "http", "127.0.0.1"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme, host = "https", "localhost"
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        received.endpoint = f"{scheme}://{host}:{server.server_address[1]}"
        try:
            yield received
        finally:
            server.shutdown()
            thread.join(5)
