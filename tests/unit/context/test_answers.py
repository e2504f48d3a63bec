"""A person's no is final for that call in that run, whatever the policy of a later attempt says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskpilot import RunContext, job, tool
from taskpilot.config import SETTINGS_FILE, load
from taskpilot.domain.decisions import DecisionStatus
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.services.approvals import approve_decision, reject_decision
from taskpilot.testing import ScriptedModel, tool_call
from tests.spine import Killed, Spine

ASK = 'package taskpilot.tools\nrequire_approval contains "a person decides" if input.tool == "send"\n'
DENY = 'package taskpilot.tools\ndeny contains "not today" if input.tool == "send"\n'


class Outbox:
    """Counts what is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

        @tool
        def send(text: str) -> str:
            """Send a text."""
            self.sent.append(text)
            return f"sent {text}"

        self.send = send


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


def follow(spine: Spine, rules: str | None) -> None:
    """From here on attempts follow these rules beside the default ones; None: the [policy] section is gone."""
    root: Path = spine.deployment.settings.root
    (root / "ours.rego").write_text(rules or "", encoding="utf-8")
    (root / SETTINGS_FILE).write_text("" if rules is None else '[policy]\nfiles = ["ours.rego"]\n', encoding="utf-8")
    spine.deployment.settings = load(root=root, environ={"TASKPILOT_HOUSEKEEPING": "off"})


def sends(outbox: Outbox, *texts: str) -> Callable[..., Any]:
    @job(name="sends", tools=[outbox.send])
    def sends(ctx: RunContext) -> list[str]:
        return [str(ctx.call("send", text=text)) for text in texts]

    return sends


@pytest.mark.parametrize("later", [None, ASK, DENY])
def test_a_rejected_call_is_not_made_under_any_later_policy(spine: Spine, outbox: Outbox, later: str | None) -> None:
    sending = sends(outbox, "hello")
    follow(spine, ASK)
    first = spine.run(sending)
    (decision,) = spine.decisions(first.run.id)
    reject_decision(spine.deployment, decision.id, by="ada", note="never")
    follow(spine, later)
    second = spine.resume(sending, first.run.id)
    assert (second.run.status, outbox.sent) == (RunStatus.DENIED, [])
    assert (second.run.reason.facts["by"], second.run.reason.facts["note"]) == ("ada", "never")


def test_a_rejected_call_that_is_asked_for_again_elsewhere_in_the_run_is_denied_without_a_question(spine: Spine, outbox: Outbox) -> None:
    @job(name="insists", tools=[outbox.send])
    def insists(ctx: RunContext) -> list[str]:
        def one(text: str) -> str:
            try:
                return str(ctx.call("send", text=text))
            except Exception as error:
                return type(error).__name__

        return [*ctx.map(one, ["hello", "other"]), one("hello"), *ctx.map(one, ["hello"])]

    follow(spine, ASK)
    first = spine.run(insists)
    asked = spine.decisions(first.run.id)
    assert [one.arguments["text"] for one in asked] == ["hello", "other"]
    reject_decision(spine.deployment, asked[0].id, by="ada", note="")
    approve_decision(spine.deployment, asked[1].id, by="ada", note="")
    follow(spine, None)
    second = spine.resume(insists, first.run.id)
    assert second.run.result == ["Denied", "sent other", "Denied", "Denied"]
    assert outbox.sent == ["other"]
    denied = [step for step in spine.steps(first.run.id, StepKind.CALL) if step.status is StepStatus.DENIED]
    assert {step.decision_id for step in denied} == {asked[0].id}
    again = spine.run(insists)
    assert again.run.result == ["sent hello", "sent other", "sent hello", "sent hello"], "the no is for that run"


def test_of_two_equal_calls_the_approved_one_is_made(spine: Spine, outbox: Outbox) -> None:
    @job(name="twice", tools=[outbox.send])
    def twice(ctx: RunContext) -> list[str]:
        return [str(one) for one in ctx.map(lambda text: ctx.call("send", text=text), ["hello", "hello"], on_error="collect")]

    follow(spine, ASK)
    first = spine.run(twice)
    asked = spine.decisions(first.run.id)
    reject_decision(spine.deployment, asked[0].id, by="ada", note="")
    approve_decision(spine.deployment, asked[1].id, by="ada", note="")
    spine.resume(twice, first.run.id)
    assert outbox.sent == ["hello"]


def test_a_question_stays_open_where_a_later_policy_would_not_ask(spine: Spine, outbox: Outbox) -> None:
    sending = sends(outbox, "hello")
    follow(spine, ASK)
    first = spine.run(sending)
    follow(spine, None)
    assert spine.resume(sending, first.run.id).run.status is RunStatus.WAITING
    (decision,) = spine.decisions(first.run.id)
    assert (decision.status, outbox.sent) == (DecisionStatus.PENDING, [])
    approve_decision(spine.deployment, decision.id, by="ada", note="")
    assert spine.resume(sending, first.run.id).run.status is RunStatus.SUCCEEDED
    assert outbox.sent == ["hello"]


def test_a_yes_does_not_outweigh_a_later_denial(spine: Spine, outbox: Outbox) -> None:
    sending = sends(outbox, "hello")
    follow(spine, ASK)
    first = spine.run(sending)
    approve_decision(spine.deployment, spine.decisions(first.run.id)[0].id, by="ada", note="")
    follow(spine, DENY)
    assert spine.resume(sending, first.run.id).run.status is RunStatus.DENIED
    assert outbox.sent == []


def test_a_no_is_final_for_a_model_too_and_after_a_kill(spine: Spine, outbox: Outbox) -> None:
    plan = {"tasks": [{"title": "Say hello", "priority": "low"}]}
    hello = [tool_call("send", text="hello")]
    killed = [False]

    @job(name="flow", tools=[outbox.send])
    def flow(ctx: RunContext) -> None:
        ctx.workflow("greet them")
        if not killed[0]:
            killed[0] = True
            raise Killed

    follow(spine, ASK)
    first = spine.run(flow, ScriptedModel([plan, {"verdict": "APPROVE", "reason": ""}, hello]))
    reject_decision(spine.deployment, spine.decisions(first.run.id)[0].id, by="ada", note="no greetings")
    follow(spine, None)
    grant = spine.ledger.resume(spine.plan(flow, run_id=first.run.id)).grant
    spine.killed(flow, ScriptedModel([hello, "They do not want it."]), grant=grant)
    assert spine.resume(flow, first.run.id, ScriptedModel([])).run.status is RunStatus.SUCCEEDED
    assert outbox.sent == []
    assert "no greetings" in spine.tasks(first.run.id)[0].reason
