"""Which spans a run's record gives, and what they say."""

import json
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from sqlalchemy import update

from taskpilot.store import tables
from taskpilot.store.database import Store
from taskpilot.telemetry.traces.content import Content
from taskpilot.telemetry.traces.file import write_pending_traces
from taskpilot.telemetry.traces.names import span_id_of
from taskpilot.telemetry.traces.sdk import readable
from tests.servers.recorded import SECOND, T0, add_agent, add_attempt, add_decision, add_step, finished_run
from tests.traced import attributes, spans


def link_ids(span: dict[str, Any]) -> list[str]:
    return [link["spanId"] for link in span["links"]]


def a_whole_run(store: Store) -> str:
    run_id = finished_run(store)
    add_agent(store, run_id, "planner", "workflow:0/planner")
    add_agent(store, run_id, "executor", "workflow:0/task:0/executor")
    usage = {"input_tokens": 1200, "cached_input_tokens": 1024, "output_tokens": 30, "cost_nano": 2_020_000, "retries": '["rate_limit"]'}
    add_step(store, run_id, "ask", "planner", scope="workflow:0/planner", agent="planner", model="gpt-4o", **usage)
    decision = add_decision(store, run_id, "the key")
    call = {"scope": "workflow:0/task:0/executor", "agent": "executor", "key": "the key", "decision_id": decision}
    add_step(store, run_id, "call", "create_task", **call)
    add_step(store, run_id, "step", "read_inbox", scope="")
    add_step(store, run_id, "now", "now", scope="")
    return run_id


def test_the_record_of_a_run_becomes_a_tree(store: Store, home: Path) -> None:
    run_id = a_whole_run(store)
    assert not write_pending_traces(store, home, run_id=run_id).failed
    tree = spans(home)
    parents = {
        name: next((other for other, one in tree.items() if one["spanId"] == span.get("parentSpanId")), None) for name, span in tree.items()
    }
    assert parents == {
        "invoke_workflow triage": None,
        "invoke_agent planner": "invoke_workflow triage",
        "invoke_agent executor": "invoke_workflow triage",
        "chat gpt-4o": "invoke_agent planner",
        "execute_tool create_task": "invoke_agent executor",
        "policy taskpilot/decision": "invoke_agent executor",
        "read_inbox": "invoke_workflow triage",
    }
    assert {span["traceId"] for span in tree.values()} == {run_id.replace("-", "")}


def test_spans_say_what_the_conventions_call_it(store: Store, home: Path) -> None:
    run_id = a_whole_run(store)
    write_pending_traces(store, home, run_id=run_id)
    tree = spans(home)
    chat = attributes(tree["chat gpt-4o"])
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.provider.name"] == "openai"
    assert chat["gen_ai.request.model"] == "gpt-4o"
    assert int(chat["gen_ai.usage.input_tokens"]) == 1200
    assert int(chat["gen_ai.usage.cache_read.input_tokens"]) == 1024
    assert int(chat["gen_ai.usage.output_tokens"]) == 30
    assert int(chat["taskpilot.step.retries"]) == 1
    assert chat["taskpilot.step.cost_usd"] == 0.00202
    assert tree["chat gpt-4o"]["startTimeUnixNano"] == str((T0 + SECOND) * 1000)
    assert tree["chat gpt-4o"]["endTimeUnixNano"] == str((T0 + 2 * SECOND) * 1000)
    tool = attributes(tree["execute_tool create_task"])
    assert (tool["gen_ai.operation.name"], tool["gen_ai.tool.name"]) == ("execute_tool", "create_task")
    root = attributes(tree["invoke_workflow triage"])
    assert (root["taskpilot.run.id"], root["taskpilot.run.status"], root["taskpilot.run.cost_usd"]) == (run_id, "succeeded", 0.00202)
    verdict = tree["policy taskpilot/decision"]
    assert attributes(verdict)["taskpilot.decision.verdict"] == "allow"
    assert verdict["spanId"] == span_id_of(attributes(verdict)["taskpilot.decision.id"])
    assert int(verdict["endTimeUnixNano"]) - int(verdict["startTimeUnixNano"]) == 4000


def test_no_prompt_argument_or_result_is_in_the_file(store: Store, home: Path) -> None:
    run_id = a_whole_run(store)
    add_step(store, run_id, "call", "notify", status="failed", error="the error is private", error_type="ToolFailed")
    write_pending_traces(store, home, run_id=run_id)
    assert "private" not in (home / "traces.jsonl").read_text()
    failed = spans(home)["execute_tool notify"]
    assert (failed["status"]["code"], failed["status"]["message"]) == (2, "ToolFailed")


def test_a_later_attempt_is_a_span_below_the_root_that_was_written_before(store: Store, home: Path) -> None:
    run_id = finished_run(store, status="waiting")
    write_pending_traces(store, home, run_id=run_id)
    assert list(spans(home)) == ["invoke_workflow triage"]
    with store.write() as connection:
        add_attempt(connection, run_id, 2)
        connection.execute(update(tables.runs).values(status="succeeded", attempts=2))
    add_step(store, run_id, "step", "after", attempt=2, started_at=T0 + 12 * SECOND, ended_at=T0 + 13 * SECOND)
    write_pending_traces(store, home, run_id=run_id)
    tree = spans(home)
    root, second = tree["invoke_workflow triage"], tree["attempt 2"]
    assert second["parentSpanId"] == root["spanId"]
    assert tree["after"]["parentSpanId"] == second["spanId"]
    assert link_ids(second) == [root["spanId"]]
    assert attributes(second)["taskpilot.run.cost_usd"] == 0.00202


def test_an_attempt_after_an_approval_is_linked_to_the_attempt_before_and_to_the_decision(store: Store, home: Path) -> None:
    run_id = finished_run(store, status="waiting")
    approved = add_decision(store, run_id, "a", verdict="require_approval", status="pending")
    write_pending_traces(store, home, run_id=run_id)
    settled = tables.decisions.update().where(tables.decisions.c.id == approved)
    with store.write() as connection:
        connection.execute(settled.values(status="approved", settled_at=T0 + 10 * SECOND, settled_by="me"))
        add_attempt(connection, run_id, 2)
        connection.execute(update(tables.runs).values(status="succeeded", attempts=2))
    write_pending_traces(store, home, run_id=run_id)
    with store.write() as connection:
        add_attempt(connection, run_id, 3)
        connection.execute(update(tables.runs).values(attempts=3))
    write_pending_traces(store, home, run_id=run_id)
    tree = spans(home)
    root, decision = tree["invoke_workflow triage"], tree["policy taskpilot/decision"]
    assert link_ids(tree["attempt 2"]) == [root["spanId"], decision["spanId"]]
    assert {one["key"]: one["value"]["stringValue"] for one in tree["attempt 2"]["links"][1]["attributes"]} == {
        "taskpilot.decision.id": approved,
        "taskpilot.decision.status": "approved",
    }
    assert link_ids(tree["attempt 3"]) == [tree["attempt 2"]["spanId"]]


def test_what_failed_has_an_error_type_and_what_waits_has_none(store: Store, home: Path) -> None:
    failed = finished_run(store, "bad", status="failed", reason_code="exception")
    add_agent(store, failed, "planner", "workflow:0/planner", status="failed")
    finished_run(store, "parked", status="waiting", reason_code="approval")
    write_pending_traces(store, home)
    tree = spans(home)
    assert attributes(tree["invoke_workflow bad"])["error.type"] == "exception"
    assert attributes(tree["invoke_agent planner"])["error.type"] == "failed"
    assert "error.type" not in attributes(tree["invoke_workflow parked"])


def test_every_genai_attribute_is_one_of_the_published_conventions(store: Store, home: Path) -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    run_id = a_whole_run(store)
    add_step(store, run_id, "ask", "planner", model="m", input='[{"role":"user","content":"hello"}]', result='{"content":"hi"}')
    write_pending_traces(store, home, run_id=run_id, content=Content([]))
    published = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_") and isinstance(value, str)}
    used = {key for span in spans(home).values() for key in attributes(span) if key.startswith("gen_ai.")}
    assert used <= published
    assert {"gen_ai.input.messages", "gen_ai.tool.call.arguments", "gen_ai.tool.type", "gen_ai.workflow.name"} <= used


def test_a_lost_attempt_is_written_with_the_one_that_went_on(store: Store, home: Path) -> None:
    run_id = finished_run(store, attempts=2)
    add_step(store, run_id, "ask", "planner", attempt=1, status="unknown", ended_at=None, model="m")
    with store.write() as connection:
        connection.execute(update(tables.runs).values(status="running"))
    assert not write_pending_traces(store, home, run_id=run_id).spans
    with store.write() as connection:
        connection.execute(update(tables.runs).values(status="succeeded"))
    write_pending_traces(store, home, run_id=run_id)
    tree = spans(home)
    assert set(tree) == {"invoke_workflow triage", "attempt 2", "chat m"}
    assert tree["chat m"]["status"]["code"] == 2
    assert tree["chat m"]["endTimeUnixNano"] == str((T0 + 10 * SECOND) * 1000)


def test_a_run_that_a_caller_started_hangs_below_the_caller(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    trace_id = run_id.replace("-", "")
    with store.write() as connection:
        connection.execute(update(tables.runs).values(traceparent=f"00-{trace_id}-00f067aa0ba902b7-01"))
    write_pending_traces(store, home, run_id=run_id)
    assert spans(home)["invoke_workflow triage"]["parentSpanId"] == "00f067aa0ba902b7"


def test_a_line_is_what_the_sdks_own_encoder_makes_of_the_spans(store: Store, home: Path) -> None:
    run_id = a_whole_run(store)
    trace_id = run_id.replace("-", "")
    add_step(store, run_id, "step", "odd \u202e name", status="failed", error_type="ValueError", diverged=1)
    add_decision(store, run_id, "b", path="settled", status="approved", settled_at=T0 + SECOND)
    with store.write() as connection:
        add_attempt(connection, run_id, 2, status="failed")
        caller = f"00-{trace_id}-00f067aa0ba902b7-01"
        connection.execute(update(tables.runs).values(status="failed", reason_code="exception", attempts=2, traceparent=caller))
    written = write_pending_traces(store, home, run_id=run_id, resource={"service.version": "1"})
    assert (len(written.spans), written.failed) == (10, False)
    (line,) = (home / "traces.jsonl").read_text().splitlines()
    assert json.loads(line) == encode_spans(readable(written.spans)).to_dict()
