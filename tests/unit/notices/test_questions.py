"""What a person is told about a question: asked, about to expire, expired; each with the link that answers it, which no record shows."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from taskpilot import RunContext, job
from taskpilot.messages.notices import text_of
from taskpilot.notices.links import with_link
from taskpilot.services.approvals import approve_decision
from taskpilot.services.links import LinkState, read_link
from tests.asking import RULES, refund
from tests.unit.notices.conftest import CHANNELS, Desk

SETTINGS = f"""
[notify]
default = ["ops"]
cooldown = "30d"
{CHANNELS}
[web]
public_url = "https://tasks.example.org/"
[policy]
files = ["ask.rego"]
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "ask.rego").write_text(RULES, encoding="utf-8")
    made = Desk(tmp_path, settings=SETTINGS)
    yield made
    made.close()


@job(tools=[refund])
def triage(ctx: RunContext) -> str:
    """Two refunds, one after the other."""
    return ctx.call(refund, customer="1") + ctx.call(refund, customer="2")


def test_a_question_is_told_warned_of_and_its_end_is_told_once_and_not_as_a_recovery(desk: Desk) -> None:
    desk.run(triage)
    desk.look()
    desk.look()
    assert desk.told == ["approval_asked"]
    assert "Without an answer it is denied at" in desk.facts()["wait"]
    desk.clock.advance(timedelta(hours=18))
    desk.ledger.expire()
    for _ in range(2):
        desk.look()
    assert desk.told == ["approval_asked", "approval_expiring"]
    desk.clock.advance(timedelta(hours=6))
    desk.ledger.expire()
    for _ in range(2):
        desk.look()
    assert desk.told == ["approval_asked", "approval_expiring", "approval_expired"]
    assert [one.closed_at is None for one in desk.incidents()] == [False, False, True]
    assert "nobody answered" in desk.facts()["reason"]


def test_each_question_of_a_run_is_told(desk: Desk) -> None:
    run_id = desk.run(triage).run.id
    desk.look()
    approve_decision(desk.deployment, desk.decisions(run_id)[0].id, by="ada", note="")
    desk.resume(triage, run_id)
    desk.look()
    assert desk.told == ["approval_asked", "recovered", "approval_asked"]
    assert desk.facts()["reason_facts"]["decision_id"] == desk.decisions(run_id)[1].id


def test_the_link_is_made_when_a_notice_is_sent_and_is_in_no_record(desk: Desk) -> None:
    (decision,) = desk.decisions(desk.run(triage).run.id)
    desk.look()
    stored = desk.facts()
    assert stored["link"] == "https://tasks.example.org/a/..."
    sent = with_link(desk.deployment, stored)
    assert sent["link"] == with_link(desk.deployment, stored)["link"]
    token = sent["link"].removeprefix("https://tasks.example.org/a/")
    assert sent["link"] in text_of(sent)
    found = read_link(desk.deployment, token)
    assert (found.state, found.question and found.question.id) == (LinkState.OPEN, decision.id)
    desk.store.checkpoint()
    held = b"".join(path.read_bytes() for path in desk.deployment.settings.state_dir.rglob("*") if path.is_file())
    assert token.encode() not in held
    assert token not in json.dumps(stored)
