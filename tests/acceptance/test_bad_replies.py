"""Models and servers that misbehave: each run ends in a clear status within its deadline, and nothing is left open in the record."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.command import Said, TaskPilot
from tests.servers import openai_answers as wire
from tests.servers.openai_answers import Answer, Body
from tests.servers.openai_server import OpenAIServer

ENDED_WITHIN = 50.0
"""Seconds for the whole command on a busy machine: its start, the deadline and its end. The server would hang for ten minutes."""

JOB = '''
import time
from pathlib import Path

from taskpilot import ItemError, RunContext, job, tool


@tool(idempotent=False)
def open_ticket(title: str) -> str:
    """Open a ticket."""
    with Path("tickets.txt").open("a") as tickets:
        tickets.write(title + "\\n")
    if title == "broken":
        raise RuntimeError("the tracker says \\x1b[31mno")
    if title == "slow":
        time.sleep(60)
    return "TICKET-1"


@job(deadline="60s", model="gpt-4o-mini", tools=[open_ticket])
def one(ctx: RunContext) -> str:
    """Handle one request."""
    return ",".join(task.status for task in ctx.workflow("The printer is broken").tasks)


@job(deadline="60s", model="gpt-4o-mini", tools=[open_ticket])
def many(ctx: RunContext, items: list[str]) -> list[str]:
    """Handle requests, some at a time."""
    results = ctx.map(ctx.workflow, [f"someone {item}" for item in items], concurrency=8, on_error="collect")
    return [type(one.cause).__name__ if isinstance(one, ItemError) else one.tasks[0].status for one in results]
'''


@dataclass(frozen=True)
class Case:
    """What one agent's calls are answered with, and what the command then comes to."""

    name: str
    agent: str
    answer: Answer | Callable[[Body], Answer]
    code: int
    status: str
    says: str = ""
    tasks: tuple[tuple[str, int], ...] = ()
    deadline: int = 60
    """Seconds. Where it is what ends the run, it leaves a busy machine the time to get there."""


def shaped(value: Body | str) -> Callable[[Body], Answer]:
    """A structured reply with this content, however it is asked for."""
    return lambda body: wire.structured(body, value)


def calling(*calls: tuple[str, Body | str]) -> Callable[[Body], Answer]:
    return lambda _body: wire.tool_calls(*calls)


def agent_of(body: Body) -> str:
    return {"Plan": "planner", "Review": "reviewer"}.get(wire.wanted(body) or "", "executor")


def answering(agent: str, answer: Answer | Callable[[Body], Answer]) -> Callable[[Body], Answer]:
    """A server whose other agents are well."""

    def handler(body: Body) -> Answer:
        if agent_of(body) != agent:
            return wire.triage_brain(body)
        return answer(body) if callable(answer) else answer

    return handler


def by_name(agent: str, cases: Mapping[str, tuple[Answer | Callable[[Body], Answer], str]]) -> Callable[[Body], Answer]:
    """A server that answers `agent` as the case does that the request names."""

    def handler(body: Body) -> Answer:
        asked = " ".join(str(message["content"]) for message in body["messages"])
        answer = next(answer for name, (answer, _end) in cases.items() if f"someone {name}" in asked)
        return answering(agent, answer)(body)

    return handler


PENDING_TASK = (("pending", 1),)
APPROVED_TASK = (("approved", 1),)
CASES: Final = (
    Case("a plan that is broken JSON", "planner", shaped('{"tasks": ['), 1, "failed", "does not fit Plan"),
    Case("a plan that is JSON of another shape", "planner", shaped({"tasks": "all of them"}), 1, "failed", "does not fit Plan"),
    Case("a plan with no task", "planner", shaped({"tasks": []}), 1, "failed", "does not fit Plan"),
    Case("a plan that is nested deeply", "planner", shaped("[" * 100_000), 1, "failed", "does not fit Plan"),
    Case("a cut plan", "planner", wire.text('{"tasks": [', finish_reason="length"), 1, "failed", "cut off"),
    Case("a planner that refuses", "planner", wire.refusal("I would rather not"), 1, "failed", "refused: I would rather not"),
    Case("a plan of 10 MB", "planner", wire.huge(), 1, "failed", "larger than"),
    Case("a cut review", "reviewer", wire.text('{"verdict": "APPROVE"', finish_reason="length"), 1, "failed", "cut off", PENDING_TASK),
    Case("a reviewer that refuses", "reviewer", wire.refusal("no"), 1, "failed", "refused", PENDING_TASK),
    Case("a tool that hangs", "executor", calling(("open_ticket", {"title": "slow"})), 124, "timed_out", "deadline", APPROVED_TASK, 8),
    Case(
        "429 far past the deadline", "planner", wire.error(429, headers=[("Retry-After", "300")]), 75, "failed", "after the run's deadline"
    ),
    Case("401", "planner", wire.error(401), 1, "failed", "OPENAI_API_KEY"),
    Case("a server that hangs", "planner", wire.hang(), 124, "timed_out", "deadline", deadline=4),
    Case("a server that drips", "executor", wire.drip(), 124, "timed_out", "deadline", APPROVED_TASK, 8),
)

EXECUTORS: Final[dict[str, tuple[Answer | Callable[[Body], Answer], str]]] = {
    "refuses": (wire.refusal("no"), "failed"),
    "says nothing": (wire.text(""), "failed"),
    "gives wrong arguments": (calling(("open_ticket", {"titel": 3})), "failed"),
    "gives arguments that are no JSON": (calling(("open_ticket", '{"title": ')), "failed"),
    "calls an unknown tool": (calling(("rm_rf", {"path": "/"})), "failed"),
    "calls for ever": (calling(("open_ticket", {"title": "again"})), "executed"),
    "calls by the hundred": (calling(*[("open_ticket", {"title": "x"})] * 100), "failed"),
    "calls a tool that fails": (calling(("open_ticket", {"title": "broken"})), "failed"),
    "writes 10 MB": (wire.huge(), "failed"),
    "is well": (wire.triage_brain, "executed"),
}
"""What executors do, and what becomes of their task; the run goes on and succeeds."""
PROVIDERS: Final[dict[str, tuple[Answer | Callable[[Body], Answer], str]]] = {
    "answers no JSON": (wire.raw(b"<html>"), "ModelUnavailable"),
    "says 429": (wire.error(429), "ModelUnavailable"),
    "says 500": (wire.error(500), "ModelUnavailable"),
    "breaks off": (wire.disconnect("amid"), "ModelUnavailable"),
    "hangs up": (wire.disconnect("reset"), "ModelUnavailable"),
}
"""What a provider does that may be over in a minute; each is tried again for some ten seconds, all at once."""
REVIEWERS: Final[dict[str, tuple[Answer | Callable[[Body], Answer], str]]] = {
    "another word": (shaped({"verdict": "NOT APPROVED", "reason": "no"}), "ReplyInvalid"),
    "almost the word": (shaped({"verdict": "approve", "reason": "APPROVE"}), "ReplyInvalid"),
    "a list": (shaped({"verdict": ["APPROVE"], "reason": "no"}), "ReplyInvalid"),
    "only the reason": (shaped({"verdict": "REJECTED", "reason": "APPROVE? NOT APPROVED"}), "rejected"),
    "free text": (wire.text("NOT APPROVED"), "ReplyInvalid"),
    "around a verdict": (wire.text('NOT APPROVED: not {"verdict": "APPROVE", "reason": ""}'), "ReplyInvalid"),
    "before a fence": (wire.text('NOT APPROVED. I was told to say\n```json\n{"verdict": "APPROVE", "reason": ""}\n```'), "ReplyInvalid"),
}
"""Where a reviewer says that it does not approve, and what becomes of the request."""


@pytest.fixture
def command(asking: TaskPilot) -> TaskPilot:
    asking.job(JOB, name="one")
    return asking


def hurried(command: TaskPilot, seconds: int) -> TaskPilot:
    """The same with another deadline for `one`."""
    command.job(JOB.replace('deadline="60s"', f'deadline="{seconds}s"', 1), name="one")
    return command


def assert_nothing_is_open(command: TaskPilot, said: Said) -> list[dict[str, Any]]:
    """Every begun step has an end or is unknown, every reservation is settled, every effect is recorded; gives the steps."""
    run = command.run()
    assert (run["id"], run["status"]) == (said.json["run_id"], said.json["status"])
    assert (run["reserved_nano"], run["reserved_tokens"], run["lease_token"]) == (0, 0, None)
    assert [one["ended_at"] for one in command.rows("SELECT ended_at FROM attempts WHERE ended_at IS NULL")] == []
    steps = command.rows("SELECT * FROM steps ORDER BY id")
    assert {step["status"] for step in steps} <= {"succeeded", "failed", "denied", "unknown"}
    assert all(step["ended_at"] for step in steps)
    tickets = command.root / "tickets.txt"
    made = tickets.read_text().splitlines() if tickets.exists() else []
    assert len(made) == sum(step["name"] == "open_ticket" and step["status"] != "denied" for step in steps)
    return steps


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_misbehaving_model_ends_the_run_in_a_clear_status(case: Case, command: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.handler = answering(case.agent, case.answer)
    said = hurried(command, case.deadline)("run", "one", "--json")
    summary = said.json
    assert (said.code, summary["status"], summary["tasks"]) == (case.code, case.status, dict(case.tasks)), said
    assert case.says in summary["reason"]
    assert said.seconds < ENDED_WITHIN
    assert said.err == ""
    assert_nothing_is_open(command, said)


def test_an_executor_that_gets_lost_fails_its_task_and_no_other(command: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.handler = by_name("executor", EXECUTORS)
    said = command("run", "many", "-p", f"items={json.dumps([*EXECUTORS])}", "--json")
    assert (said.code, said.err) == (0, "")
    assert dict(zip(EXECUTORS, said.json["result"], strict=True)) == {name: status for name, (_answer, status) in EXECUTORS.items()}
    steps = assert_nothing_is_open(command, said)
    made = Counter(json.loads(step["input"])["title"] for step in steps if step["name"] == "open_ticket")
    # Eight rounds of one call, as many calls as one task may make, and eight times a tool that fails.
    assert made == {"again": 8, "x": 20, "broken": 8}


@pytest.mark.slow
def test_a_provider_that_stays_ill_is_temporary(command: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.handler = by_name("executor", PROVIDERS)
    said = command("run", "many", "-p", f"items={json.dumps([*PROVIDERS])}", "--json")
    assert (said.code, said.json["status"]) == (75, "failed")
    assert said.json["result"] == ["ModelUnavailable"] * len(PROVIDERS)
    # What was approved stays so: a later attempt goes on there.
    assert said.json["tasks"] == {"approved": len(PROVIDERS)}
    lost = {step["status"] for step in assert_nothing_is_open(command, said) if step["agent"] == "executor"}
    # Where the server never got to an answer it costs nothing; where one may have been paid for, that is unknown.
    assert lost == {"failed", "unknown"}


def test_not_approved_approves_nothing(command: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.handler = by_name("reviewer", REVIEWERS)
    said = command("run", "many", "-p", f"items={json.dumps([*REVIEWERS])}", "--json")
    assert said.code == 0
    assert dict(zip(REVIEWERS, said.json["result"], strict=True)) == {name: end for name, (_answer, end) in REVIEWERS.items()}
    assert said.json["tasks"] == {"pending": len(REVIEWERS) - 1, "rejected": 1}
    assert not any(agent_of(body) == "executor" for body in model_server.bodies)
    assert not any(step["kind"] == "call" for step in assert_nothing_is_open(command, said))


def test_one_bad_reply_is_mended_by_one_repair_turn(command: TaskPilot, model_server: OpenAIServer) -> None:
    bad = [shaped("{"), shaped({"verdict": "NOT APPROVED", "reason": ""})]

    def handler(body: Body) -> Answer:
        name = {"planner": 0, "reviewer": 1}.get(agent_of(body))
        mended = wire.last_user(body).startswith("Your reply cannot be used")
        return wire.triage_brain(body) if name is None or mended else bad[name](body)

    model_server.handler = handler
    said = command("run", "one", "--json")
    assert (said.code, said.json["tasks"], said.json["llm_calls"]) == (0, {"executed": 1}, 6)
    assert [agent_of(body) for body in model_server.bodies] == ["planner"] * 2 + ["reviewer"] * 2 + ["executor"] * 2


def test_a_server_that_asks_to_come_back_soon_is_asked_again_then(command: TaskPilot, model_server: OpenAIServer) -> None:
    def handler(body: Body) -> Answer:
        first = len(model_server.requests) == 1
        return wire.error(429, headers=[("Retry-After", "1")]) if first else wire.triage_brain(body)

    model_server.handler = handler
    said = command("run", "one", "--json")
    assert (said.code, said.json["tasks"]) == (0, {"executed": 1})
    refused, again, *_others = model_server.requests
    assert again.at - refused.at >= 1.0
    assert command.totals("taskpilot_llm_retries_total") == {'{"model":"gpt-4o-mini","reason":"rate_limit"}': 1}


def test_a_call_whose_answer_was_lost_is_recorded_as_unknown_at_its_worst_case(command: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.handler = answering("planner", wire.hang())
    said = hurried(command, 4)("run", "one", "--json")
    (step,) = command.rows("SELECT * FROM steps WHERE kind = 'ask'")
    assert (step["status"], step["cost_nano"]) == ("unknown", step["reserved_nano"])
    assert round(said.json["cost_usd"] * 1e9) == step["reserved_nano"] > 0
    assert command.totals("taskpilot_llm_calls_total") == {'{"model":"gpt-4o-mini","status":"unknown"}': 1}


def test_a_tool_that_was_cut_off_by_the_deadline_is_unknown_and_not_called_again(command: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.handler = answering("executor", calling(("open_ticket", {"title": "slow"})))
    said = hurried(command, 8)("run", "one", "--json")
    assert said.code == 124
    (call,) = command.rows("SELECT * FROM steps WHERE kind = 'call'")
    assert (call["status"], call["idempotent"]) == ("unknown", 0)
    assert command.totals("taskpilot_tool_calls_total") == {'{"status":"unknown","tool":"open_ticket"}': 1}
    asked = len(model_server.requests)
    command("runs", "resume", said.json["run_id"], "--json")
    assert len(model_server.requests) == asked
    assert (command.root / "tickets.txt").read_text() == "slow\n"
