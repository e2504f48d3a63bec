"""What was said to models and tools is in spans only on request, bounded and without secrets."""

import json
from pathlib import Path

from taskpilot.store.database import Store
from taskpilot.telemetry.traces.content import TEXT_MAX, Content
from taskpilot.telemetry.traces.file import write_pending_traces
from tests.servers.recorded import add_step, finished_run
from tests.traced import attributes, spans


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
    write_pending_traces(store, home, run_id=run_id, content=Content(["sk-canary-1"]))
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
