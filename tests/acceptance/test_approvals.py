"""What policy allows, denies or asks a person about: decided before each call, answered by command, continued from the journal."""

import json
from collections import Counter

import pytest

from tests.command import Said, TaskPilot
from tests.servers.openai_answers import Answer, Body, last_user, structured, triage_brain, wanted
from tests.servers.openai_server import OpenAIServer

JOBS = '''
from pathlib import Path

from taskpilot import Denied, RunContext, job, tool
from taskpilot.domain.errors import ItemError

INBOX = [f"{word} request {number}" for number in range(4) for word in ("plain", "sensitive")]


@tool(idempotent=True)
def wipe(path: str) -> str:
    """Wipe a folder."""
    Path("wiped.txt").write_text(path)
    return "wiped"


@job(model="gpt-4o-mini")
def night(ctx: RunContext) -> dict[str, int]:
    """Eight requests, eight at a time."""
    results = ctx.map(ctx.workflow, INBOX, concurrency=8)
    states = [task.status for result in results for task in result.tasks]
    return {state: states.count(state) for state in sorted(set(states))}


@job
def messages(ctx: RunContext) -> list[str]:
    """Messages, every third of which policy denies."""
    texts = [f"{'delete' if number % 3 == 0 else 'note'} {number}" for number in range(60)]
    sent = ctx.map(lambda text: ctx.call("notify", channel="ops", message=text), texts, concurrency=8, on_error="collect")
    return ["denied" if isinstance(one, ItemError) and isinstance(one.cause, Denied) else "sent" for one in sent]


@job(tools=[wipe])
def calls(ctx: RunContext, caught: bool = False) -> str:
    """One call that a project's policy may deny."""
    try:
        return ctx.call(wipe, path="/srv")
    except Denied:
        if caught:
            return "went on without"
        raise
'''


def planned(body: Body) -> Answer:
    """A planner whose tasks for sensitive requests are urgent; its colleagues are as ever."""
    if wanted(body) != "Plan":
        return triage_brain(body)
    asked = last_user(body)
    urgent = "high" if "sensitive" in asked else "low"
    return structured(body, {"tasks": [{"title": f"Settle the {asked}", "priority": urgent, "description": ""}]})


def reviewed(body: Body) -> Answer:
    """A reviewer who wants a person to look at what is sensitive."""
    if wanted(body) == "Review" and "sensitive" in last_user(body):
        return structured(body, {"verdict": "REVIEW", "reason": "a person should look"})
    return triage_brain(body)


@pytest.fixture
def command(asking: TaskPilot) -> TaskPilot:
    asking.job(JOBS)
    return asking


def assert_nothing_was_paid_twice(server: OpenAIServer, said: Said) -> None:
    asked = Counter(json.dumps(body["messages"], sort_keys=True) for body in server.bodies)
    assert set(asked.values()) == {1}
    assert said.json["llm_calls"] == len(server.bodies)


def test_an_approval_that_comes_later_goes_on_from_the_journal(command: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.handler = planned
    parked = command("run", "night", "--json")
    run_id = parked.json["run_id"]
    assert (parked.code, parked.json["status"]) == (13, "waiting")
    # The plain ones were finished first: four plans, reviews and executions of two turns, and the others up to their call.
    assert parked.json["tasks"] == {"approved": 4, "executed": 4}
    assert len(model_server.bodies) == 4 * 4 + 4 * 3
    pending = command("decisions", "list", "--status", "pending", "--json").json
    assert [one["tool"] for one in pending] == ["create_task"] * 4
    told = command("runs", "show", run_id).out
    assert all(f"taskpilot decisions approve {one['decision_id']}" in told for one in pending)

    early = command("runs", "resume", run_id, "--json")
    assert (early.code, len(model_server.bodies)) == (13, 28)
    for one in pending[:3]:
        answered = command("decisions", "approve", one["decision_id"], "--note", "asked the team")
        assert (answered.code, f"taskpilot runs resume {run_id}" in answered.out) == (0, True)
    assert command("decisions", "approve", pending[0]["decision_id"]).code == 2
    assert command("decisions", "reject", pending[3]["decision_id"], "--note", "not before Monday").code == 0

    done = command("runs", "resume", run_id, "--json")
    assert (done.code, done.json["result"]) == (0, {"executed": 7, "failed": 1})
    assert done.json["tasks"] == {"executed": 7, "failed": 1}
    (failed,) = command("tasks", "list", "--status", "failed", "--json").json
    assert "not before Monday" in failed["reason"]
    assert_nothing_was_paid_twice(model_server, done)
    assert command.totals("taskpilot_approvals_total") == {'{"verdict":"approved"}': 3, '{"verdict":"rejected"}': 1}


def test_a_review_that_a_person_must_give_parks_the_task_and_no_other(command: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.handler = reviewed
    parked = command("run", "night", "--json")
    assert (parked.code, parked.json["tasks"]) == (13, {"executed": 4, "review": 4})
    waiting = command("tasks", "list", "--status", "review", "--json").json
    for one in waiting[:3]:
        assert command("tasks", "approve", one["task_id"]).code == 0
    assert command("runs", "resume", parked.json["run_id"], "--quiet").code == 13
    assert command("tasks", "reject", waiting[3]["task_id"], "--note", "no").code == 0
    refused = command("tasks", "approve", waiting[3]["task_id"])
    assert (refused.code, "is rejected" in refused.err) == (2, True)
    done = command("runs", "resume", parked.json["run_id"], "--json")
    assert (done.code, done.json["tasks"]) == (0, {"executed": 7, "rejected": 1})
    assert_nothing_was_paid_twice(model_server, done)


def test_eight_threads_get_the_right_decision_each(command: TaskPilot) -> None:
    said = command("run", "messages", "--json")
    assert (said.code, said.err) == (0, "")
    assert said.json["result"] == ["denied" if number % 3 == 0 else "sent" for number in range(60)]
    rows = command.rows("SELECT verdict, count(*) AS n FROM decisions GROUP BY verdict")
    assert {row["verdict"]: row["n"] for row in rows} == {"allow": 40, "deny": 20}
    lines = [json.loads(line) for line in (command.state_dir / "decision_logs.jsonl").read_text().splitlines()]
    assert Counter(line["result"]["verdict"] for line in lines) == {"allow": 40, "deny": 20}
    output = command.state_dir / "runs" / said.json["run_id"] / "output.log"
    # An engine that another thread uses would panic there.
    assert output.read_text() == ""


def test_what_the_policy_denies_a_job_ends_it_with_14_unless_it_catches_that(command: TaskPilot) -> None:
    command.settings('[policy]\nfiles = ["ours.rego"]\n')
    (command.root / "ours.rego").write_text(
        'package taskpilot.tools\n\ndeny contains "srv is not ours" if startswith(input.arguments.path, "/srv")\n'
    )
    denied = command("run", "calls", "--json")
    assert (denied.code, denied.json["status"]) == (14, "denied")
    assert "srv is not ours" in denied.json["reason"]
    caught = command("run", "calls", "-p", "caught=true", "--json")
    assert (caught.code, caught.json["result"]) == (0, "went on without")
    assert not (command.root / "wiped.txt").exists()


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        pytest.param("allow if nonsense(", 78, id="a file that does not compile"),
        pytest.param('deny := "everything"', 78, id="a rule of another type"),
        pytest.param('deny contains "x" if 1 / (count(input.arguments) - 1) == 1', 14, id="a rule that fails when it is evaluated"),
    ],
)
def test_a_broken_policy_allows_nothing(rule: str, code: int, command: TaskPilot) -> None:
    command.settings('[policy]\nfiles = ["ours.rego"]\n')
    (command.root / "ours.rego").write_text(f"package taskpilot.tools\n\n{rule}\n")
    said = command("run", "calls", "--quiet")
    assert (said.code, said.out) == (code, "")
    assert not (command.root / "wiped.txt").exists()
