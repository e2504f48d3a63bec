"""Servers that know fewer ways to a structured reply than OpenAI's: triage works with them all the same."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.command import TaskPilot
from tests.servers.openai_answers import Answer, Body, mode_of, text, triage_brain, wanted
from tests.servers.openai_server import OpenAIServer

SHIPPED = Path(__file__).parents[2] / "jobs" / "triage.py"
REQUESTS = 10


@pytest.fixture
def triage(asking: TaskPilot) -> TaskPilot:
    """The shipped job over ten requests."""
    shutil.copy(SHIPPED, asking.root / "jobs")
    (asking.root / "jobs" / "inbox.jsonl").write_text("".join(json.dumps(f"Request {number}") + "\n" for number in range(REQUESTS)))
    return asking


@pytest.mark.parametrize("status", [400, 422, 500])
@pytest.mark.parametrize("known", ["forced_tool", "prompt"])
def test_a_server_that_refuses_json_schema_is_worked_with(status: int, known: str, triage: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.supports, model_server.refuse_status = frozenset({known}), status
    said = triage("run", "triage", "--json")
    assert (said.code, said.err, said.json["tasks"]) == (0, "", {"executed": REQUESTS}), said
    modes = Counter(mode_of(body) for body in model_server.bodies if mode_of(body))
    # What the server understands is found out once, by one thread, and remembered: one refusal of each other mode, two calls a request.
    assert modes.pop(known) == 2 * REQUESTS
    assert modes == ({"json_schema": 1} if known == "forced_tool" else {"json_schema": 1, "forced_tool": 1})
    assert said.json["llm_calls"] == 4 * REQUESTS
    refused = '{"model":"gpt-4o-mini","reason":"unsupported"}'
    assert triage.totals("taskpilot_llm_retries_total") == {refused: sum(modes.values())}


def test_a_server_that_ignores_the_format_is_asked_in_another_way(triage: TaskPilot, model_server: OpenAIServer) -> None:
    def handler(body: Body) -> Answer:
        return text("Certainly! Here is my plan.") if mode_of(body) == "json_schema" else triage_brain(body)

    model_server.handler = handler
    said = triage("run", "triage", "-p", "concurrency=1", "--json")
    assert (said.code, said.json["tasks"]) == (0, {"executed": REQUESTS}), said
    modes = Counter(mode_of(body) for body in model_server.bodies if wanted(body))
    # The reply that paid no attention is the one that its repair turn made good.
    assert modes == {"json_schema": 1, "forced_tool": 2 * REQUESTS}


def test_a_server_that_refuses_every_way_is_a_failure_that_names_it(triage: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.supports = frozenset()
    said = triage("run", "triage", "--quiet")
    assert (said.code, said.out) == (1, "")
    assert "triage: failed" in said.err
    assert f"{model_server.url} refused the request (400)" in said.err
    assert said.err.count("\n") == 1
