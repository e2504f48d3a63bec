"""An OTLP backend of other people takes our spans, over gRPC and HTTP, and understands what they are."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskpilot.store.database import Store
from taskpilot.telemetry.metrics import JobFacts
from taskpilot.telemetry.publish import Targets, publish
from taskpilot.telemetry.traces.collector import Collector
from taskpilot.telemetry.traces.delivery import Delivery, send_pending_traces
from tests.servers.phoenix import Phoenix, only_where_asked, phoenix
from tests.servers.ports import free_port
from tests.servers.recorded import T0, add_agent, add_decision, add_step, finished_run

pytestmark = [only_where_asked, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    with phoenix(tmp_path_factory.mktemp("phoenix")) as running:
        yield running


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_what_a_dead_backend_missed_is_there_once_and_understood(store: Store, home: Path, backend: Phoenix, protocol: str) -> None:
    run_id = finished_run(store)
    scope = "workflow:0/planner"
    add_agent(store, run_id, "planner", scope)
    usage = {"input_tokens": 1200, "cached_input_tokens": 1024, "output_tokens": 30}
    add_step(store, run_id, "ask", "planner", scope=scope, agent="planner", model="gpt-4o", **usage)
    add_step(store, run_id, "call", "create_task", scope=scope, key="the key", agent="planner")
    add_decision(store, run_id, "the key", agent="planner")
    publish(store, Targets(home, collector=Collector(f"http://127.0.0.1:{free_port()}", protocol)), run_id, JobFacts("triage"))
    collector = Collector(backend.grpc if protocol == "grpc" else f"{backend.web}/v1/traces", protocol)
    assert send_pending_traces(store, collector, seconds=30) == Delivery(spans=5, runs=1)
    assert send_pending_traces(store, collector, seconds=30) == Delivery()

    trace_id = run_id.replace("-", "")
    before = 0 if protocol == "grpc" else 5
    spans = {span["name"]: span for span in backend.spans(before + 5) if span["context"]["trace_id"] == trace_id}
    assert {name: span["span_kind"] for name, span in spans.items() if span["span_kind"] != "UNKNOWN"} == {
        "invoke_agent planner": "AGENT",
        "chat gpt-4o": "LLM",
        "execute_tool create_task": "TOOL",
    }
    ids = {span["context"]["span_id"]: name for name, span in spans.items()}
    assert {name: ids.get(span["parent_id"]) for name, span in spans.items()} == {
        "invoke_workflow triage": None,
        "invoke_agent planner": "invoke_workflow triage",
        "chat gpt-4o": "invoke_agent planner",
        "execute_tool create_task": "invoke_agent planner",
        "policy taskpilot/decision": "invoke_agent planner",
    }
    began = datetime.fromtimestamp(T0 / 1e6, UTC)
    times = spans["invoke_workflow triage"]
    assert datetime.fromisoformat(times["start_time"]) == began
    assert datetime.fromisoformat(times["end_time"]) == began + timedelta(seconds=10)
    attributes = spans["chat gpt-4o"]["attributes"]
    assert (attributes["llm.token_count.prompt"], attributes["llm.token_count.completion"], attributes["llm.model_name"]) == (
        1200,
        30,
        "gpt-4o",
    )
    assert attributes["llm.token_count.prompt_details.cache_read"] == 1024
