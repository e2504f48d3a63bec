"""What a run leaves in files: its spans, its verdicts and its log lines, also where it was killed."""

import json
import signal
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.acceptance.kills.processes import children, eventually, send
from tests.command import TaskPilot
from tests.servers.collector import grpc_collector, http_collector

JOB = '''
import time
from pathlib import Path

from taskpilot import RunContext, job, tool

ROOT = Path(__file__).parent.parent
REQUESTS = ["Reset the password of Ms Weber, then order a keyboard for her desk", "Please delete all backups"]


@tool(idempotent=True)
def look(name: str) -> str:
    """Look at something for as long as one is told to."""
    (ROOT / "began").touch()
    while (ROOT / "shut").exists():
        time.sleep(0.01)
    return f"{name} is there"


@job(model="offline", tools=[look])
def work(ctx: RunContext) -> str:
    """Plans, reviews and executes, and looks at something."""
    ctx.map(ctx.workflow, REQUESTS, concurrency=2)
    ctx.step("count", lambda: 2)
    ctx.log.info("a line of the job's own", token="x")
    ctx.call(look, name="the door")
    return "done"
'''


@pytest.fixture
def working(taskpilot: TaskPilot) -> TaskPilot:
    taskpilot.job(JOB, name="work")
    return taskpilot


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def spans_in(command: TaskPilot) -> list[Any]:
    """The spans of traces.jsonl, each line checked to be the OTLP message that a collector takes."""
    return [span for line in lines(command.state_dir / "traces.jsonl") for span in spans_of(message(line))]


def message(line: dict[str, Any]) -> ExportTraceServiceRequest:
    """The protobuf message of a line. OTLP's JSON has ids in hex where protobuf's own has base64; nothing else differs."""

    def with_bytes(value: Any) -> Any:
        if isinstance(value, list):
            return [with_bytes(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            key: b64encode(bytes.fromhex(one)).decode() if key in ("traceId", "spanId", "parentSpanId") else with_bytes(one)
            for key, one in value.items()
        }

    parsed = json_format.ParseDict(with_bytes(line), ExportTraceServiceRequest())
    assert isinstance(parsed, ExportTraceServiceRequest)
    return parsed


def spans_of(request: ExportTraceServiceRequest) -> list[Any]:
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def check_tree(spans: list[Any], run: dict[str, Any]) -> Any:
    """One trace with one root, which is the run's; every other span has its parent in it. Gives the root."""
    assert {span.trace_id.hex() for span in spans} == {run["trace_id"]}
    ids = Counter(span.span_id.hex() for span in spans)
    assert ids.most_common(1)[0][1] == 1
    roots = [span for span in spans if not span.parent_span_id]
    assert [span.span_id.hex() for span in roots] == [run["root_span_id"]]
    assert all(span.parent_span_id.hex() in ids for span in spans if span.parent_span_id)
    assert all(0 < span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)
    root = attributes(roots[0])
    assert (root["taskpilot.run.id"], root["taskpilot.run.status"]) == (run["id"], run["status"])
    return roots[0]


def test_a_run_leaves_its_spans_with_the_names_of_the_genai_conventions(working: TaskPilot) -> None:
    assert working("run", "work", "--quiet").code == 0
    run = working.run()
    spans = spans_in(working)
    root = check_tree(spans, run)
    assert root.name == "invoke_workflow work"
    told = attributes(root)
    assert told["gen_ai.operation.name"] == "invoke_workflow"
    assert (told["taskpilot.run.llm_calls"], told["taskpilot.run.tool_calls"]) == (run["llm_calls"], run["tool_calls"])
    named = Counter(span.name.partition(" ")[0] for span in spans)
    steps = Counter(row["kind"] for row in working.rows("SELECT kind FROM steps"))
    assert named["chat"] == steps["ask"] > 0
    assert named["execute_tool"] == steps["call"] > 0
    assert named["invoke_agent"] == len(working.rows("SELECT scope FROM agent_invocations")) > 0
    assert named["policy"] == len(working.rows("SELECT id FROM decisions"))
    chats = [attributes(span) for span in spans if span.name.startswith("chat")]
    assert {one["gen_ai.operation.name"] for one in chats} == {"chat"}
    assert {one["gen_ai.request.model"] for one in chats} == {"offline"}
    assert {one["gen_ai.provider.name"] for one in chats} == {"taskpilot"}
    assert sum(one["gen_ai.usage.input_tokens"] for one in chats) == run["input_tokens"]
    tools = [attributes(span) for span in spans if span.name.startswith("execute_tool")]
    assert {one["gen_ai.tool.name"] for one in tools} >= {"look", "create_task"}
    agents = {attributes(span)["gen_ai.agent.name"] for span in spans if span.name.startswith("invoke_agent")}
    assert agents == {"planner", "reviewer", "executor"}
    assert "Weber" not in (working.state_dir / "traces.jsonl").read_text(), "content is not traced"


def killed_at_work(working: TaskPilot, whom: str) -> None:
    """`taskpilot run work`, whose job or supervisor is killed -9 inside a tool."""
    (working.root / "shut").touch()
    with working.start("run", "work", "--quiet") as process:
        try:
            assert eventually((working.root / "began").exists, seconds=30)
            jobs = children(process.pid)
            for pid in jobs if whom == "job" else [process.pid]:
                send(pid, signal.SIGKILL)
            process.communicate(timeout=30)
        finally:
            send(process.pid, signal.SIGKILL)
            process.communicate(timeout=30)
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in jobs), seconds=30)
    (working.root / "shut").unlink()


def test_a_job_that_is_killed_leaves_its_spans_by_the_same_command(working: TaskPilot) -> None:
    killed_at_work(working, "job")
    run = working.run()
    assert run["status"] == "lost"
    check_lost(working, spans_in(working), run)


def test_a_run_whose_supervisor_is_killed_leaves_its_spans_by_the_next_command(working: TaskPilot) -> None:
    killed_at_work(working, "supervisor")
    first = working.run()
    assert not (working.state_dir / "traces.jsonl").exists()
    assert working("run", "work", "--quiet").code == 0
    lost = working.rows("SELECT * FROM runs WHERE id = ?", first["id"])[0]
    assert lost["status"] == "lost"
    traced = spans_in(working)
    check_lost(working, [span for span in traced if span.trace_id.hex() == lost["trace_id"]], lost)
    check_tree([span for span in traced if span.trace_id.hex() == working.run()["trace_id"]], working.run())
    before = (working.state_dir / "traces.jsonl").read_text()
    assert working("run", "work", "--quiet").code == 0
    assert (working.state_dir / "traces.jsonl").read_text().startswith(before)
    assert len({span.span_id for span in spans_in(working)}) == len(spans_in(working)), "a span is written once"


def check_lost(working: TaskPilot, spans: list[Any], run: dict[str, Any]) -> None:
    root = check_tree(spans, run)
    assert root.status.code == root.status.STATUS_CODE_ERROR
    steps = Counter(row["kind"] for row in working.rows("SELECT kind FROM steps WHERE run_id = ?", run["id"]))
    named = Counter(span.name.partition(" ")[0] for span in spans)
    assert (named["chat"], named["execute_tool"]) == (steps["ask"], steps["call"])
    cut = [attributes(span) for span in spans if attributes(span).get("taskpilot.step.status") == "unknown"]
    assert [one["gen_ai.tool.name"] for one in cut] == ["look"]


@pytest.mark.parametrize(("protocol", "collector"), [("grpc", grpc_collector), ("http/protobuf", http_collector)], ids=["grpc", "http"])
def test_a_collector_gets_the_spans_that_are_in_the_file(working: TaskPilot, protocol: str, collector: Any) -> None:
    with collector() as received:
        variables = {
            "OTEL_ENABLED": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=night",
            "OTEL_SERVICE_NAME": "night-shift",
            "OTEL_RESOURCE_ATTRIBUTES": "team=ops",
        }
        done = working("run", "work", "--quiet", environment=variables)
        assert (done.code, done.err) == (0, "")
        # A busy machine may have had no time left; another run's spans then come alone.
        if not received.spans:
            assert working("run", "work", "--quiet", environment=variables).code == 0
    run = working.run()
    mine = [span for span in spans_in(working) if span.trace_id.hex() == run["trace_id"]]
    assert {span.span_id for span in received.spans} == {span.span_id for span in mine}
    check_tree(received.spans, run)
    assert received.headers[0]["x-team"] == "night"
    resources = [{one.key: one.value.string_value for one in part.resource.attributes} for part in received.requests[0].resource_spans]
    assert (resources[0]["service.name"], resources[0]["team"]) == ("night-shift", "ops")


def test_a_collector_that_is_switched_off_gets_nothing_and_the_file_all(working: TaskPilot) -> None:
    with http_collector() as received:
        variables = {
            "OTEL_ENABLED": "false",
            "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        assert working("run", "work", "--quiet", environment=variables).code == 0
    assert received.requests == []
    check_tree(spans_in(working), working.run())


def test_each_verdict_is_a_row_and_a_line(working: TaskPilot) -> None:
    for _ in range(2):
        assert working("run", "work", "--quiet").code == 0
    rows = {row["id"]: row for row in working.rows("SELECT * FROM decisions")}
    written = lines(working.state_dir / "decision_logs.jsonl")
    assert len(written) == len(rows) > 2
    assert {one["decision_id"] for one in written} == set(rows)
    runs = {row["id"]: row["trace_id"] for row in working.rows("SELECT id, trace_id FROM runs")}
    traced = {span.span_id.hex() for span in spans_in(working)}
    for one in written:
        row = rows[one["decision_id"]]
        assert one["result"]["verdict"] == row["verdict"]
        assert one["labels"] | {"deployment": ""} == {
            "run_id": row["run_id"], "job": "work", "agent": row["agent"], "engine": row["engine"], "deployment": ""
        }  # fmt: skip
        assert one["input"]["arguments"] == json.loads(row["arguments"])
        assert one["trace_id"] == runs[row["run_id"]]
        assert one["span_id"] in traced


def test_each_log_line_is_json_with_its_run_and_its_trace(working: TaskPilot) -> None:
    for _ in range(2):
        assert working("run", "work", "--quiet").code == 0
    runs = {row["id"]: row["trace_id"] for row in working.rows("SELECT id, trace_id FROM runs")}
    shared = lines(working.state_dir / "logs" / "taskpilot.log")
    assert {one["taskpilot.run.id"] for one in shared} == set(runs)
    for one in shared:
        assert one["trace.id"] == runs[one["taskpilot.run.id"]]
        assert {"@timestamp", "log.level", "message", "ecs.version", "service.name"} <= set(one)
    actions = Counter(one.get("event.action") for one in shared)
    assert actions["run-started"] == actions["run-ended"] == len(runs)
    own = [one for one in shared if one["message"] == "a line of the job's own"]
    assert len(own) == len(runs)
    for run_id in runs:
        alone = lines(working.state_dir / "runs" / run_id / "run.log")
        assert alone == [one for one in shared if one["taskpilot.run.id"] == run_id]


def test_what_is_written_is_for_its_owner_alone(working: TaskPilot) -> None:
    assert working("run", "work", "--quiet").code == 0
    for name in ("traces.jsonl", "metrics.json", "decision_logs.jsonl", "logs/taskpilot.log"):
        assert (working.state_dir / name).stat().st_mode & 0o777 == 0o600
