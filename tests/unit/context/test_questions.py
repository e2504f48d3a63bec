"""`ctx.approve`: a question in the job's own words, asked once, answered for exactly these words."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from taskpilot import Denied, RunContext, job
from taskpilot.domain.decisions import DecisionStatus, Via
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.messages.questions import about_decision
from taskpilot.messages.reasons import reason_sentence
from taskpilot.services.approvals import approve_decision, grant_decision, reject_decision
from tests.spine import NOON, Killed, Spine

PAID: list[int] = []
AMOUNTS = [250]


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    PAID.clear()
    AMOUNTS[:] = [250]
    opened = Spine(tmp_path)
    yield opened
    opened.close()


@job(approval_timeout="8h")
def pays(ctx: RunContext) -> str:
    """Asks, then pays."""
    ctx.approve("Pay the invoice?", amount=AMOUNTS[0], to="ada")
    ctx.step("pay", PAID.append, AMOUNTS[0])
    return "paid"


def test_it_is_asked_once_in_the_words_of_the_job_and_goes_on_after_a_yes(spine: Spine) -> None:
    first = spine.run(pays)
    (asked,) = spine.decisions(first.run.id)
    assert (first.run.status, asked.tool, asked.engine, PAID) == (RunStatus.WAITING, "ctx.approve", "person", [])
    assert asked.arguments == {"question": "Pay the invoice?", "details": {"amount": 250, "to": "ada"}}
    assert asked.expires_at == NOON + timedelta(hours=8)
    assert reason_sentence(first.run.reason).startswith("a question of the job needed a person's approval: Pay the invoice?")
    assert about_decision(asked).sentence == 'Pay the invoice? {"amount": 250, "to": "ada"}'
    assert spine.resume(pays, first.run.id).run.status is RunStatus.WAITING
    approve_decision(spine.deployment, asked.id, by="ada", note="")
    assert (spine.resume(pays, first.run.id).run.status, PAID) == (RunStatus.SUCCEEDED, [250])
    (step,) = spine.steps(first.run.id, StepKind.APPROVE)
    assert (step.status, step.decision_id) == (StepStatus.SUCCEEDED, asked.id)
    assert len(spine.decisions(first.run.id)) == 1


def test_a_no_and_no_answer_raise_denied(spine: Spine) -> None:
    rejected = spine.run(pays).run.id
    reject_decision(spine.deployment, spine.decisions(rejected)[0].id, by="ada", note="not now")
    ran = spine.resume(pays, rejected)
    assert (ran.run.status, ran.run.reason.facts["note"], PAID) == (RunStatus.DENIED, "not now", [])
    late = spine.run(pays).run.id
    spine.later(8 * 3600)
    ran = spine.resume(pays, late)
    assert (ran.run.status, ran.run.reason.code, PAID) == (RunStatus.DENIED, "approval_expired", [])
    (step,) = spine.steps(late, StepKind.APPROVE)
    assert step.status is StepStatus.DENIED


def test_a_yes_is_for_exactly_these_details(spine: Spine) -> None:
    run_id = spine.run(pays).run.id
    approve_decision(spine.deployment, spine.decisions(run_id)[0].id, by="ada", note="")
    AMOUNTS[:] = [2_500]
    assert spine.resume(pays, run_id).run.status is RunStatus.WAITING
    assert [one.status for one in spine.decisions(run_id)] == [DecisionStatus.APPROVED, DecisionStatus.PENDING]
    assert PAID == []


def test_an_answer_that_was_met_is_kept_after_a_kill(spine: Spine) -> None:
    died: list[int] = []

    @job()
    def dies(ctx: RunContext) -> str:
        ctx.approve("Go on?")
        if not died:
            died.append(1)
            raise Killed
        return "went on"

    run_id = spine.run(dies).run.id
    approve_decision(spine.deployment, spine.decisions(run_id)[0].id, by="ada", note="")
    spine.killed(dies, grant=spine.ledger.resume(spine.plan(dies, run_id=run_id)).grant)
    assert spine.resume(dies, run_id).run.status is RunStatus.SUCCEEDED
    assert len(spine.decisions(run_id)) == 1


@pytest.mark.parametrize(("question", "details"), [(" ", {}), ("Why?", {"text": "x" * 64_000})])
def test_an_empty_or_endless_question_is_refused(spine: Spine, question: str, details: dict[str, str]) -> None:
    @job()
    def asks(ctx: RunContext) -> None:
        ctx.approve(question, **details)

    assert spine.run(asks).run.reason.facts["error_type"] == "ValueError"


def test_a_standing_grant_answers_later_runs_and_each_use_is_recorded(spine: Spine) -> None:
    first = spine.run(pays).run.id
    (asked,) = spine.decisions(first)
    _answered, grant = grant_decision(spine.deployment, asked.id, until=NOON + timedelta(days=30), uses=2, by="ada", note="monthly")
    assert spine.resume(pays, first).run.status is RunStatus.SUCCEEDED
    second = spine.run(pays)
    (used,) = spine.decisions(second.run.id)
    assert (second.run.status, used.status, used.via, used.grant_id) == (RunStatus.SUCCEEDED, DecisionStatus.APPROVED, Via.GRANT, grant.id)
    assert (used.settled_by, used.note) == ("ada", "monthly")
    assert spine.run(pays).run.status is RunStatus.WAITING
    assert PAID == [250, 250]


def test_a_denial_may_be_caught_and_the_run_says_all_the_same_that_nobody_answered(spine: Spine) -> None:
    @job(approval_timeout="1h")
    def falls_back(ctx: RunContext) -> str:
        try:
            ctx.approve("Delete it?")
        except Denied:
            return "kept it"
        return "deleted it"

    run_id = spine.run(falls_back).run.id
    spine.later(3600)
    ran = spine.resume(falls_back, run_id)
    assert (ran.run.status, ran.run.result, ran.run.reason.code) == (RunStatus.DENIED, "kept it", "approval_expired")
