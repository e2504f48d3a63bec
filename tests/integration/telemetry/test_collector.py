"""Spans to a real OTLP receiver, over gRPC and HTTP, and to collectors that are no help."""

import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from taskpilot.store.database import Store
from taskpilot.telemetry.traces.collector import Collector, ExportResult, Reply, is_there, sender
from taskpilot.telemetry.traces.file import write_pending_traces
from tests.servers.bad_gateway import answering, dead, dripping, hanging
from tests.servers.collector import Received, grpc_collector, http_collector
from tests.servers.debian import require
from tests.servers.recorded import add_step, finished_run
from tests.stopwatch import is_within, own_seconds

Make = Callable[..., AbstractContextManager[Received]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of localhost."""
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "certificate.pem", folder / "key.pem"
    command = [require("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *names, "-out", str(files[0]), "-keyout", str(files[1])], check=True, capture_output=True)
    return files


@pytest.mark.parametrize(("protocol", "make"), [("grpc", grpc_collector), ("http/protobuf", http_collector)])
def test_the_collector_gets_the_spans_of_the_file(
    store: Store, home: Path, protocol: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    run_id = finished_run(store)
    add_step(store, run_id, "ask", "planner", model="gpt-4o", input_tokens=1200)
    spans = write_pending_traces(store, home, run_id=run_id).spans
    with make() as received:
        collector = Collector(received.endpoint + ("" if protocol == "grpc" else "/v1/traces"), protocol, {"X-Token": "t"})
        assert is_there(collector)
        assert sender(collector)(spans, 60.0) == Reply(ExportResult.ACCEPTED)
    assert [span.name for span in received.spans] == ["invoke_workflow triage", "chat gpt-4o"]
    root, chat = received.spans
    assert root.trace_id.hex() == run_id.replace("-", "")
    assert chat.parent_span_id == root.span_id
    tokens = {one.key: one.value.int_value for one in chat.attributes}["gen_ai.usage.input_tokens"]
    assert tokens == 1200
    resource = {one.key: one.value.string_value for one in received.requests[0].resource_spans[0].resource.attributes}
    assert (resource["service.name"], resource["taskpilot.deployment"]) == ("taskpilot", "testing")
    assert received.headers[0]["x-token"] == "t"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("bad", [hanging, dripping, dead, lambda: answering(500, b"no"), lambda: answering(404)])
def test_a_collector_that_is_no_help_is_left_in_time_and_quietly(
    store: Store, home: Path, protocol: str, bad: Callable[[], AbstractContextManager[Received]], capfd: pytest.CaptureFixture[str]
) -> None:
    spans = write_pending_traces(store, home, run_id=finished_run(store)).spans
    with bad() as server:
        send = sender(Collector(server.url, protocol))  # type: ignore[attr-defined]
        results: list[ExportResult] = []
        assert is_within(1.0, lambda: results.append(send(spans, 0.3).result))
    assert set(results) <= {ExportResult.UNREACHABLE, ExportResult.UNKNOWN}
    assert capfd.readouterr() == ("", "")


def test_an_endpoint_without_a_server_is_noticed_at_once() -> None:
    start = own_seconds()
    with dead() as server:
        assert not is_there(Collector(server.url, "grpc"))
    assert not is_there(Collector("http://192.0.2.1:4317", "grpc"))
    assert not is_there(Collector("http://[broken", "grpc"))
    assert not is_there(Collector("http://127.0.0.1:99999", "http/protobuf"))
    assert own_seconds() - start < 1.0
    with hanging() as server:
        assert is_there(Collector(f"127.0.0.1:{server.port}", "grpc"))


@pytest.mark.parametrize(("protocol", "make"), [("grpc", grpc_collector), ("http/protobuf", http_collector)])
def test_a_certificate_of_ones_own_is_trusted_where_it_is_named_and_nowhere_else(
    store: Store, home: Path, protocol: str, make: Make, certificate: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    spans = write_pending_traces(store, home, run_id=finished_run(store)).spans
    with make(certificate) as received:
        endpoint = received.endpoint + ("" if protocol == "grpc" else "/v1/traces")
        assert sender(Collector(endpoint, protocol))(spans, 3.0).result in (ExportResult.UNREACHABLE, ExportResult.UNKNOWN)
        assert sender(Collector(endpoint, protocol, certificate=certificate[0]))(spans, 60.0) == Reply(ExportResult.ACCEPTED)
        missing = sender(Collector(endpoint, protocol, certificate=home / "missing.pem"))(spans, 3.0)
        assert (missing.result, "No such file" in missing.message) == (ExportResult.UNREACHABLE, True)
    assert len(received.spans) == 1
    assert "Traceback" not in capfd.readouterr().err
