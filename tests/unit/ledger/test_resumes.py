"""What may be gone on with, cancelled or reaped, and what may not."""

import dataclasses
from datetime import timedelta

import pytest

from taskpilot import Budget, Retry, RunContext, job
from taskpilot.domain.errors import NotFound, TransitionRefused
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus
from tests.errors import saying
from tests.spine import Spine


@job(retry=Retry(attempts=2))
def hourly(ctx: RunContext) -> None:
    """Do nothing."""


@job(name="crowded", overlap="allow_all")
def crowded(ctx: RunContext) -> None:
    """Do nothing, as often as one likes at a time."""


def test_the_next_attempt_of_a_resumed_run_has_the_ceilings_and_the_deadline_of_now(spine: Spine) -> None:
    claim = spine.claim(hourly)
    spine.ledger.end(claim.grant, Outcome(RunStatus.BUDGET_EXCEEDED, Reason(ReasonCode.BUDGET)), active_seconds=1, keep_lease=True)
    plan = spine.plan(hourly, run_id=claim.run.id)
    spec = dataclasses.replace(plan.spec, budget=Budget(tokens=9), deadline=timedelta(seconds=7))
    spine.ledger.resume(dataclasses.replace(plan, spec=spec))
    row = spine.row(claim.run.id)
    assert (row.ceiling_tokens, row.ceiling_nano, row.deadline_micros, row.attempts_allowed) == (9, None, 7_000_000, 2)


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.CANCELLED, RunStatus.DENIED])
def test_what_ended_for_good_is_not_resumed(spine: Spine, status: RunStatus) -> None:
    claim = spine.claim(hourly)
    spine.ledger.end(claim.grant, Outcome(status), active_seconds=1, keep_lease=True)
    with pytest.raises(TransitionRefused, match="nothing to resume"):
        spine.ledger.resume(spine.plan(hourly, run_id=claim.run.id))


def test_a_run_that_lives_is_not_resumed(spine: Spine) -> None:
    claim = spine.claim(hourly)
    with pytest.raises(TransitionRefused, match="is alive"):
        spine.ledger.resume(spine.plan(hourly, run_id=claim.run.id))


def test_a_run_is_not_resumed_beside_another_one_of_its_job(spine: Spine) -> None:
    first = spine.claim(hourly)
    spine.ledger.end(first.grant, Outcome(RunStatus.WAITING, Reason(ReasonCode.APPROVAL)), active_seconds=1, keep_lease=True)
    spine.claim(hourly)
    with pytest.raises(TransitionRefused, match="active"):
        spine.ledger.resume(spine.plan(hourly, run_id=first.run.id))


def test_a_resumed_run_may_always_have_one_more_attempt(spine: Spine) -> None:
    claim = spine.claim(crowded)
    spine.ledger.end(claim.grant, Outcome(RunStatus.FAILED, Reason(ReasonCode.EXCEPTION)), active_seconds=1, keep_lease=True)
    resumed = spine.ledger.resume(spine.plan(crowded, run_id=claim.run.id))
    assert (resumed.grant.attempt, resumed.run.attempts_allowed, resumed.run.ended_at) == (2, 2, None)


def test_a_living_run_is_asked_to_end_and_a_dead_one_is_ended_at_once(spine: Spine) -> None:
    alive = spine.claim(hourly)
    assert spine.ledger.cancel(alive.run.id) is RunStatus.RUNNING
    assert spine.run_of(alive.run.id).cancel_requested
    assert spine.run_of(alive.run.id).status is RunStatus.RUNNING
    spine.later(31)
    spine.ledger.cancel(alive.run.id)
    assert (spine.run_of(alive.run.id).status, spine.run_of(alive.run.id).reason.code) == (
        RunStatus.CANCELLED,
        ReasonCode.CANCELLED_BY_PERSON,
    )
    with pytest.raises(TransitionRefused):
        spine.ledger.cancel(alive.run.id)


def test_a_waiting_run_is_cancelled_at_once(spine: Spine) -> None:
    claim = spine.claim(hourly)
    spine.ledger.end(claim.grant, Outcome(RunStatus.WAITING, Reason(ReasonCode.APPROVAL)), active_seconds=1, keep_lease=True)
    assert spine.ledger.cancel(claim.run.id) is RunStatus.WAITING
    assert spine.run_of(claim.run.id).status is RunStatus.CANCELLED
    assert spine.total("taskpilot_runs_total") == {'{"status":"cancelled"}': 1}


def test_reaping_ends_what_is_dead_and_leaves_what_lives_or_waits(spine: Spine) -> None:
    dead = spine.claim(hourly)
    spine.later(31)
    alive = spine.claim(crowded)
    assert [run.id for run in spine.ledger.reap()] == [dead.run.id]
    assert spine.run_of(dead.run.id).status is RunStatus.QUEUED
    assert spine.run_of(alive.run.id).status is RunStatus.RUNNING
    assert spine.ledger.reap() == []


def test_an_unknown_run_is_not_found(spine: Spine) -> None:
    with pytest.raises(NotFound, check=saying("runs list")):
        spine.ledger.cancel("01936b2e-0000-7000-8000-000000000000")
