"""What the collector missed, by the real command: replayed, drawn, and as part of a caller's trace."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.acceptance.serving.server import serving, wait
from tests.command import TaskPilot
from tests.servers.bad_gateway import dead
from tests.servers.collector import Received, grpc_collector, http_collector
from tests.servers.openai_server import OpenAIServer

JOB: Final = '''
from taskpilot import RunContext, job, tool


@tool(idempotent=True)
def LOOK(name: str) -> str:
    """Look at something."""
    return f"{name} is there"


@job(model="MODEL", tools=[LOOK])
def work(ctx: RunContext) -> str:
    """Plans, reviews and executes, and looks at something."""
    ctx.workflow("Reset the password of Ms Weber")
    ctx.call(LOOK, name="a name that moves the cursor \\x1b[31m and sk-canary-0123")
    return "done"
'''
BOTH: Final = pytest.mark.parametrize(("protocol", "make"), [("grpc", grpc_collector), ("http/protobuf", http_collector)])
CALLER: Final = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def job(*, model: str = "offline", look: str = "look") -> str:
    """The text of its file."""
    return JOB.replace("MODEL", model).replace("LOOK", look)


@pytest.fixture
def working(taskpilot: TaskPilot) -> TaskPilot:
    taskpilot.job(job(), name="work")
    return taskpilot


def towards(endpoint: str, protocol: str = "grpc") -> dict[str, str]:
    return {"OTEL_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}


def missed(command: TaskPilot, number: int, protocol: str = "grpc") -> None:
    """So many runs with a collector that is dead; they do not notice."""
    with dead() as server:
        for _ in range(number):
            done = command("run", "work", "--quiet", environment=towards(server.url, protocol))
            assert (done.code, done.out, done.err) == (0, "", "")


def in_the_file(path: Path) -> list[tuple[str, str, str]]:
    """Id, name and beginning of each span of traces.jsonl."""
    every = [json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"] for line in path.read_text().splitlines()]
    return sorted((span["spanId"], span["name"], span["startTimeUnixNano"]) for spans in every for span in spans)


def received_by(received: Received) -> list[tuple[str, str, str]]:
    return sorted((span.span_id.hex(), span.name, str(span.start_time_unix_nano)) for span in received.spans)


@BOTH
def test_replay_delivers_once_what_the_file_has(
    working: TaskPilot, protocol: str, make: Callable[[], AbstractContextManager[Received]]
) -> None:
    missed(working, 2, protocol)
    with dead() as server:
        away = working("traces", "replay", environment=towards(server.url, protocol))
    assert (away.code, away.out) == (75, "")
    assert "the traces of 2 runs are not sent yet" in away.err
    with make() as received:
        back = working("traces", "replay", environment=towards(received.endpoint, protocol))
        assert (back.code, back.err) == (0, "")
        assert f"of 2 runs delivered to {received.endpoint}" in back.out
        again = working("traces", "replay", environment=towards(received.endpoint, protocol))
        assert (again.code, again.out, again.err) == (0, "nothing to send\n", "")
        assert working("traces", "replay", "--json", environment=towards(received.endpoint, protocol)).json == {
            "spans": 0,
            "runs": 0,
            "rejected": 0,
            "refused": 0,
            "pending": 0,
            "error": "",
        }
    assert received_by(received) == in_the_file(working.state_dir / "traces.jsonl")


def test_what_was_rejected_is_told(working: TaskPilot) -> None:
    missed(working, 1)
    with grpc_collector() as received:
        received.rejects = 2
        said = working("traces", "replay", environment=towards(received.endpoint))
    assert said.code == 0
    assert "the collector rejected 2 spans and refused 0 runs: too old" in said.err


def test_a_replay_without_a_collector_names_the_setting(working: TaskPilot) -> None:
    said = working("traces", "replay")
    assert said.code == 78
    assert "env OTEL_ENABLED" in said.err


def test_serve_delivers_by_itself(working: TaskPilot) -> None:
    missed(working, 2)
    with grpc_collector() as received, serving(working, **towards(received.endpoint)) as server:
        wait(lambda: len({span.trace_id for span in received.spans}) == 2, server.said)
    assert max(Counter(span.span_id for span in received.spans).values()) == 1
    assert received_by(received) == in_the_file(working.state_dir / "traces.jsonl")


def test_housekeeping_delivers_where_no_server_is(working: TaskPilot) -> None:
    del working.environment["TASKPILOT_HOUSEKEEPING"]
    missed(working, 2)
    with http_collector() as received:
        said = working("run", "housekeeping", "--json", environment=towards(received.endpoint, "http/protobuf"))
        assert "traces of 2 runs delivered, of 0 still pending" in said.json["result"]
    mine = [span for span in received.spans if span.name == "invoke_workflow work"]
    assert len({span.trace_id for span in mine}) == len(mine) == 2


def test_a_run_belongs_to_the_trace_of_its_caller(working: TaskPilot) -> None:
    trace_id, span_id = CALLER
    said = working("run", "work", "--json", environment={"TRACEPARENT": f"00-{trace_id}-{span_id}-01"})
    assert said.json["trace_id"] == trace_id
    (root,) = [span for span in spans_by_line(working) if span["name"] == "invoke_workflow work"]
    assert (root["traceId"], root["parentSpanId"], root["flags"]) == (trace_id, span_id, 0x300)


@pytest.mark.parametrize("text", ["nonsense", f"00-{'0' * 32}-{CALLER[1]}-01", f"ff-{CALLER[0]}-{CALLER[1]}-01"])
def test_a_caller_that_is_no_caller_is_ignored(working: TaskPilot, text: str) -> None:
    said = working("run", "work", "--json", environment={"TRACEPARENT": text})
    assert (said.code, said.err) == (0, "")
    assert said.json["trace_id"] == working.run()["trace_id"] != CALLER[0]
    (root,) = [span for span in spans_by_line(working) if span["name"] == "invoke_workflow work"]
    assert "parentSpanId" not in root


def spans_by_line(command: TaskPilot) -> list[dict[str, Any]]:
    lines = (command.state_dir / "traces.jsonl").read_text().splitlines()
    return [span for line in lines for span in json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]]


def test_content_is_traced_on_request_without_the_key(asking: TaskPilot, model_server: OpenAIServer) -> None:
    asking.job(job(model="gpt-4o-mini"), name="work")
    asking.environment["OPENAI_API_KEY"] = "sk-canary-0123"
    assert asking("run", "work", "--quiet").code == 0
    assert "Weber" not in (asking.state_dir / "traces.jsonl").read_text()
    asked = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"}
    assert asking("run", "work", "--quiet", environment=asked).code == 0
    text = (asking.state_dir / "traces.jsonl").read_text()
    assert "Weber" in text
    assert "sk-canary-0123" not in text
    told = {one["key"]: one["value"] for span in spans_by_line(asking) for one in span["attributes"] if span["name"] == "execute_tool look"}
    assert "***" in told["gen_ai.tool.call.arguments"]["stringValue"]


def test_the_waterfall_fits_a_narrow_terminal(working: TaskPilot) -> None:
    working.job(job(look="look_" + "long_name_" * 5), name="work")
    assert working("run", "work", "--quiet").code == 0
    said = working.on_terminal("traces", "show", working.run()["id"], columns=80)
    assert said.code == 0
    drawn = [line for line in said.out.splitlines() if "|" in line]
    assert max(len(line) for line in drawn) <= 80
    assert {line.split("|")[1].count("=") > 0 for line in drawn} == {True}
    names = [line.split("|")[0].rstrip() for line in drawn]
    assert names[0] == "attempt 1"
    assert "  planner" in names
    assert "    chat offline" in names
    assert any(name.startswith("  policy look_long") for name in names)
    assert working("traces", "show", working.run()["id"], "--json").json["spans"][0]["name"] == "attempt 1"
