"""Which spans a run's record gives, and what they say."""

import json
import stat
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from sqlalchemy import select, update

from taskpilot.domain.moments import utc_now
from taskpilot.signals.locks import Waits, held
from taskpilot.signals.traces.content import TEXT_MAX, Content
from taskpilot.signals.traces.file import write_owed_traces
from taskpilot.signals.traces.ids import span_id_of
from taskpilot.signals.traces.sdk import readable
from taskpilot.store import tables
from taskpilot.store.database import Store
from taskpilot.store.trace_queries import claim_due_traces
from tests.servers.recorded import SECOND, T0, add_agent, add_attempt, add_decision, add_step, finished_run


def spans(home: Path) -> dict[str, dict[str, Any]]:
    """The spans of traces.jsonl by name; a name that stands twice is an error here."""
    found: dict[str, dict[str, Any]] = {}
    for line in (home / "traces.jsonl").read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    assert span["name"] not in found
                    found[span["name"]] = span
    return found


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


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
    assert not write_owed_traces(store, home, run_id=run_id).failed
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
    write_owed_traces(store, home, run_id=run_id)
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
    write_owed_traces(store, home, run_id=run_id)
    assert "private" not in (home / "traces.jsonl").read_text()
    failed = spans(home)["execute_tool notify"]
    assert (failed["status"]["code"], failed["status"]["message"]) == (2, "ToolFailed")


def test_the_file_is_ours_alone_and_written_once(store: Store, home: Path) -> None:
    run_id = a_whole_run(store)
    write_owed_traces(store, home, run_id=run_id)
    assert stat.S_IMODE((home / "traces.jsonl").stat().st_mode) == 0o600
    assert not write_owed_traces(store, home, run_id=run_id).spans
    assert len((home / "traces.jsonl").read_text().splitlines()) == 1


def test_a_later_attempt_is_a_span_below_the_root_that_was_written_before(store: Store, home: Path) -> None:
    run_id = finished_run(store, status="waiting")
    write_owed_traces(store, home, run_id=run_id)
    assert list(spans(home)) == ["invoke_workflow triage"]
    with store.write() as connection:
        add_attempt(connection, run_id, 2)
        connection.execute(update(tables.runs).values(status="succeeded", attempts=2))
    add_step(store, run_id, "step", "after", attempt=2, started_at=T0 + 12 * SECOND, ended_at=T0 + 13 * SECOND)
    write_owed_traces(store, home, run_id=run_id)
    tree = spans(home)
    root, second = tree["invoke_workflow triage"], tree["attempt 2"]
    assert second["parentSpanId"] == root["spanId"]
    assert tree["after"]["parentSpanId"] == second["spanId"]
    assert link_ids(second) == [root["spanId"]]
    assert attributes(second)["taskpilot.run.cost_usd"] == 0.00202


def test_an_attempt_after_an_approval_is_linked_to_the_attempt_before_and_to_the_decision(store: Store, home: Path) -> None:
    run_id = finished_run(store, status="waiting")
    approved = add_decision(store, run_id, "a", verdict="require_approval", status="pending")
    write_owed_traces(store, home, run_id=run_id)
    settled = tables.decisions.update().where(tables.decisions.c.id == approved)
    with store.write() as connection:
        connection.execute(settled.values(status="approved", settled_at=T0 + 10 * SECOND, settled_by="me"))
        add_attempt(connection, run_id, 2)
        connection.execute(update(tables.runs).values(status="succeeded", attempts=2))
    write_owed_traces(store, home, run_id=run_id)
    with store.write() as connection:
        add_attempt(connection, run_id, 3)
        connection.execute(update(tables.runs).values(attempts=3))
    write_owed_traces(store, home, run_id=run_id)
    tree = spans(home)
    root, decision = tree["invoke_workflow triage"], tree["policy taskpilot/decision"]
    assert link_ids(tree["attempt 2"]) == [root["spanId"], decision["spanId"]]
    assert {one["key"]: one["value"]["stringValue"] for one in tree["attempt 2"]["links"][1]["attributes"]} == {
        "taskpilot.decision.id": approved,
        "taskpilot.decision.status": "approved",
    }
    assert link_ids(tree["attempt 3"]) == [tree["attempt 2"]["spanId"]]


def test_what_failed_says_so_by_an_error_type_and_what_waits_does_not(store: Store, home: Path) -> None:
    failed = finished_run(store, "bad", status="failed", reason="exception")
    add_agent(store, failed, "planner", "workflow:0/planner", status="failed")
    finished_run(store, "parked", status="waiting", reason="approval")
    write_owed_traces(store, home)
    tree = spans(home)
    assert attributes(tree["invoke_workflow bad"])["error.type"] == "exception"
    assert attributes(tree["invoke_agent planner"])["error.type"] == "failed"
    assert "error.type" not in attributes(tree["invoke_workflow parked"])


def test_every_genai_attribute_is_one_of_the_published_conventions(store: Store, home: Path) -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    run_id = a_whole_run(store)
    add_step(store, run_id, "ask", "planner", model="m", input='[{"role":"user","content":"hello"}]', result='{"content":"hi"}')
    write_owed_traces(store, home, run_id=run_id, content=Content([]))
    published = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_") and isinstance(value, str)}
    used = {key for span in spans(home).values() for key in attributes(span) if key.startswith("gen_ai.")}
    assert used <= published
    assert {"gen_ai.input.messages", "gen_ai.tool.call.arguments", "gen_ai.tool.type", "gen_ai.workflow.name"} <= used


def test_content_is_there_on_request_in_the_shape_of_the_conventions_and_without_secrets(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    asked = [
        {"role": "system", "content": "Plan.", "tool_calls": [], "tool_call_id": None},
        {"role": "user", "content": "The key is sk-canary-1", "tool_calls": [], "tool_call_id": None},
        {"role": "tool", "content": "filed", "tool_calls": [], "tool_call_id": "c1"},
    ]
    call = {"id": "c2", "name": "notify", "arguments": '{"message":"sk-canary-1"}'}
    reply = {"content": "", "tool_calls": [call], "finish_reason": "tool_calls", "refusal": None}
    add_step(store, run_id, "ask", "planner", model="m", input=json.dumps(asked), result=json.dumps(reply))
    add_step(store, run_id, "call", "notify", input='{"message":"sk-canary-1"}', result='"sk-canary-1 sent"')
    add_step(store, run_id, "step", "read", input=None, result='"the result is private"')
    write_owed_traces(store, home, run_id=run_id, content=Content(["sk-canary-1"]))
    text = (home / "traces.jsonl").read_text()
    assert "sk-canary-1" not in text
    assert "private" not in text
    chat, tool = attributes(spans(home)["chat m"]), attributes(spans(home)["execute_tool notify"])
    assert json.loads(chat["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Plan."}]},
        {"role": "user", "parts": [{"type": "text", "content": "The key is ***"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "filed"}]},
    ]
    assert json.loads(chat["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c2", "name": "notify", "arguments": {"message": "***"}}],
            "finish_reason": "tool_calls",
        }
    ]
    assert (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"]) == ('{"message":"***"}', '"*** sent"')


def test_long_content_keeps_the_instructions_and_the_newest_messages() -> None:
    said = [{"role": "user", "content": f"{number} " + "x" * 5000} for number in range(40)]
    kept = Content([]).of("ask", json.dumps(said), None)["gen_ai.input.messages"]
    assert kept is not None
    assert len(kept) <= TEXT_MAX
    numbers = [message["parts"][0]["content"].split()[0] for message in json.loads(kept)]
    assert (numbers[0], numbers[-1]) == ("0", "39")
    assert (
        len(json.loads(Content([]).of("call", json.dumps({"a": ["y" * 8000] * 30}), None)["gen_ai.tool.call.arguments"] or "")) < TEXT_MAX
    )


def test_the_file_is_rotated_and_keeps_three_old_ones(store: Store, home: Path) -> None:
    for number in range(6):
        run_id = finished_run(store, f"job{number}")
        assert not write_owed_traces(store, home, run_id=run_id, file_bytes=1000).failed
    files = sorted(path.name for path in home.glob("traces*"))
    assert files == ["traces.jsonl", "traces.jsonl.1", "traces.jsonl.2", "traces.jsonl.3"]
    for number, name in zip((5, 4, 3, 2), files, strict=True):
        (line,) = (home / name).read_text().splitlines()
        assert f"invoke_workflow job{number}" in line
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_a_rotation_loses_nothing_that_is_owed_to_a_collector(store: Store, home: Path) -> None:
    for _ in range(8):
        write_owed_traces(store, home, run_id=finished_run(store), file_bytes=1000, due_at=utc_now())
    with store.write() as connection:
        assert len(claim_due_traces(connection, utc_now(), until=utc_now(), limit=100)) == 8


def test_a_lost_attempt_is_written_with_the_one_that_went_on(store: Store, home: Path) -> None:
    run_id = finished_run(store, attempts=2)
    add_step(store, run_id, "ask", "planner", attempt=1, status="unknown", ended_at=None, model="m")
    with store.write() as connection:
        connection.execute(update(tables.runs).values(status="running"))
    assert not write_owed_traces(store, home, run_id=run_id).spans
    with store.write() as connection:
        connection.execute(update(tables.runs).values(status="succeeded"))
    write_owed_traces(store, home, run_id=run_id)
    tree = spans(home)
    assert set(tree) == {"invoke_workflow triage", "attempt 2", "chat m"}
    assert tree["chat m"]["status"]["code"] == 2
    assert tree["chat m"]["endTimeUnixNano"] == str((T0 + 10 * SECOND) * 1000)


def test_what_a_killed_supervisor_left_is_written_by_the_next(store: Store, home: Path) -> None:
    for _ in range(3):
        finished_run(store, "left")
    mine = finished_run(store, "mine")
    written = write_owed_traces(store, home, run_id=mine)
    assert [span.name for span in written.spans] == ["invoke_workflow mine", *["invoke_workflow left"] * 3]


def test_a_run_that_a_caller_started_hangs_below_the_caller(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    trace_id = run_id.replace("-", "")
    with store.write() as connection:
        connection.execute(update(tables.runs).values(traceparent=f"00-{trace_id}-00f067aa0ba902b7-01"))
    write_owed_traces(store, home, run_id=run_id)
    assert spans(home)["invoke_workflow triage"]["parentSpanId"] == "00f067aa0ba902b7"


def test_a_line_is_what_the_sdks_own_encoder_makes_of_the_spans(store: Store, home: Path) -> None:
    run_id = a_whole_run(store)
    trace_id = run_id.replace("-", "")
    add_step(store, run_id, "step", "odd \u202e name", status="failed", error_type="ValueError", diverged=1)
    add_decision(store, run_id, "b", path="settled", status="approved", settled_at=T0 + SECOND)
    with store.write() as connection:
        add_attempt(connection, run_id, 2, status="failed")
        caller = f"00-{trace_id}-00f067aa0ba902b7-01"
        connection.execute(update(tables.runs).values(status="failed", reason="exception", attempts=2, traceparent=caller))
    written = write_owed_traces(store, home, run_id=run_id, resource={"service.version": "1"})
    assert (len(written.spans), written.failed) == (10, False)
    (line,) = (home / "traces.jsonl").read_text().splitlines()
    assert json.loads(line) == encode_spans(readable(written.spans)).to_dict()


def test_a_record_that_gives_no_spans_is_left_behind_not_tried_for_ever(store: Store, home: Path) -> None:
    broken = finished_run(store, trace_id="no hex at all")
    assert write_owed_traces(store, home, run_id=broken).failed
    with store.read() as connection:
        assert connection.execute(select(tables.attempts.c.traces_written_at)).scalar() is not None
    assert not write_owed_traces(store, home, run_id=broken).failed


def test_a_file_that_cannot_be_written_leaves_the_spans_owed(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    (home / "traces.jsonl").mkdir()
    assert write_owed_traces(store, home, run_id=run_id).failed
    (home / "traces.jsonl").rmdir()
    assert len(write_owed_traces(store, home).spans) == 1


def test_a_link_in_the_place_of_the_file_is_not_followed(store: Store, home: Path, tmp_path: Path) -> None:
    run_id = finished_run(store)
    (home / "traces.jsonl").symlink_to(tmp_path / "elsewhere")
    assert write_owed_traces(store, home, run_id=run_id).failed
    assert not (tmp_path / "elsewhere").exists()


def test_one_writer_at_a_time(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    with held(home / "locks" / "traces.lock", Waits(1)):
        assert write_owed_traces(store, home, run_id=run_id, waits=Waits(0.05)).failed
    assert len(write_owed_traces(store, home, run_id=run_id).spans) == 1


def test_a_long_journal_is_written_in_batches(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    with store.write() as connection:
        template = {"run_id": run_id, "attempt": 1, "scope": "", "kind": "step", "status": "succeeded", "make": 0, "input_digest": ""}
        times = {"started_at": T0, "ended_at": T0 + 1, "ordinal": 0}
        rows = [{"id": f"s{number}", "key": f"k{number}", "name": f"n{number}", **template, **times} for number in range(1200)]
        connection.execute(tables.steps.insert(), rows)
    assert len(write_owed_traces(store, home, run_id=run_id).spans) == 1201
    assert len((home / "traces.jsonl").read_text().splitlines()) == 3
    assert len(spans(home)) == 1201
