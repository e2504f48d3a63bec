"""A question that nobody answers in time is denied, and the run that waited for it ends; a warning comes first."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot import Denied, RunContext, every, job
from taskpilot.domain.decisions import DecisionStatus, Via
from taskpilot.domain.errors import TransitionRefused
from taskpilot.domain.runs import RunStatus, exit_code
from taskpilot.domain.tasks import TaskStatus
from taskpilot.messages.reasons import reason_sentence
from taskpilot.services.approvals import approve_decision, approve_task, reject_decision
from taskpilot.store import serving_queries
from taskpilot.testing import ScriptedModel, tool_call
from tests.asking import MADE, asking, refund, wipe
from tests.spine import NOON, Spine

HOUR = 3600


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    made = asking(tmp_path)
    yield made
    made.close()


@job(tools=[refund], pause_on_failure=1)
def refunds(ctx: RunContext) -> str:
    """One refund."""
    return ctx.call(refund, customer="4711")


@job(tools=[refund, wipe])
def both(ctx: RunContext) -> list[Any]:
    """Two calls, the second of which is asked for an hour only."""
    return ctx.map(lambda one: one(), [lambda: ctx.call(refund, customer="4711"), lambda: ctx.call(wipe, path="/srv")], on_error="collect")


def kinds(spine: Spine) -> list[str]:
    with spine.store.read() as connection:
        return [event.kind.value for event in serving_queries.events_after(connection, 0)]


def test_without_a_server_the_run_ends_denied_after_a_day_and_the_warning_comes_once(spine: Spine) -> None:
    run_id = spine.run(refunds).run.id
    (asked,) = spine.decisions(run_id)
    assert (asked.expires_at, spine.ledger.expire()) == (NOON + timedelta(hours=24), False)
    spine.later(18 * HOUR)
    assert spine.ledger.expire()
    assert not spine.ledger.expire()
    assert kinds(spine) == ["approval_asked", "approval_expiring"]
    spine.later(6 * HOUR)
    assert spine.ledger.expire()
    run, (expired,) = spine.run_of(run_id), spine.decisions(run_id)
    assert (run.status, run.reason, exit_code(run.status, run.reason.cause)) == (RunStatus.DENIED, asked.expiry, 14)
    assert "nobody answered" in reason_sentence(run.reason)
    assert (expired.status, expired.via, expired.settled_by) == (DecisionStatus.EXPIRED, Via.EXPIRY, None)
    assert kinds(spine)[2:] == ["approval_expired", "run_denied"]
    assert spine.total("taskpilot_approvals_total") == {'{"verdict":"expired"}': 1}
    # It is not a failure of the job.
    assert spine.claim(refunds).run.status is RunStatus.RUNNING
    assert not MADE


def test_a_late_yes_is_refused_with_its_reason_and_recorded_as_an_expiry(spine: Spine) -> None:
    run_id = spine.run(refunds).run.id
    (asked,) = spine.decisions(run_id)
    spine.later(24 * HOUR)
    for _ in range(2):
        with pytest.raises(TransitionRefused, match="nobody answered until 2026-11-24T12:00:00Z"):
            approve_decision(spine.deployment, asked.id, by="ada", note="")
    assert spine.run_of(run_id).status is RunStatus.DENIED
    assert not MADE


def test_an_answer_in_the_last_moment_holds(spine: Spine) -> None:
    run_id = spine.run(refunds).run.id
    (asked,) = spine.decisions(run_id)
    spine.clock.advance(timedelta(hours=24) - timedelta(microseconds=1))
    assert approve_decision(spine.deployment, asked.id, by="ada", note="", via=Via.LINK).item.status is DecisionStatus.APPROVED
    spine.later(HOUR)
    assert not spine.ledger.expire()
    assert spine.resume(refunds, run_id).run.status is RunStatus.SUCCEEDED
    (used,) = spine.decisions(run_id)
    assert (used.via, MADE) == (Via.LINK, {"4711": 1})


def test_under_a_server_the_run_goes_on_and_is_told_that_nobody_answered(spine: Spine) -> None:
    told: list[str] = []

    @job(tools=[refund])
    def cleans_up(ctx: RunContext) -> str:
        try:
            return ctx.call(refund, customer="4711")
        except Denied as denied:
            told.append(str(denied))
            return "cleaned up"

    run_id = spine.run(cleans_up).run.id
    spine.later(24 * HOUR)
    spine.awake()
    assert spine.ledger.expire()
    assert spine.run_of(run_id).status is RunStatus.QUEUED
    claim = spine.ledger.start_queued(spine.plan(cleans_up, run_id=run_id))
    assert claim is not None
    ran = spine.attempt(cleans_up, claim.grant)
    # Whatever the job makes of it, nobody said yes.
    assert (ran.run.status, ran.run.reason.code, ran.run.result) == (RunStatus.DENIED, "approval_expired", "cleaned up")
    assert told == ["refund was not approved: nobody answered until 2026-11-24T12:00:00Z"]


def test_each_question_has_its_own_time_and_a_yes_is_used_before_the_run_ends(spine: Spine) -> None:
    run_id = spine.run(both).run.id
    first, second = spine.decisions(run_id)
    assert (first.expires_at, second.expires_at) == (NOON + timedelta(hours=24), NOON + timedelta(hours=1))
    spine.later(HOUR)
    assert spine.ledger.expire()
    # The other question is open.
    assert spine.run_of(run_id).status is RunStatus.WAITING
    approve_decision(spine.deployment, first.id, by="ada", note="")
    spine.later(48 * HOUR)
    spine.ledger.expire()
    assert spine.run_of(run_id).status is RunStatus.WAITING
    ran = spine.resume(both, run_id)
    assert (ran.run.status, ran.run.reason.code, MADE) == (RunStatus.DENIED, "approval_expired", {"4711": 1})


def test_a_no_to_the_last_question_ends_a_run_of_which_another_expired(spine: Spine) -> None:
    run_id = spine.run(both).run.id
    spine.later(HOUR)
    spine.ledger.expire()
    reject_decision(spine.deployment, spine.decisions(run_id)[0].id, by="ada", note="")
    assert spine.run_of(run_id).reason.code == "approval_expired"


def test_a_task_in_review_expires_too(spine: Spine) -> None:
    model = ScriptedModel(
        [
            {"tasks": [{"title": "Pay", "priority": "high", "description": ""}]},
            {"verdict": "REVIEW", "reason": "look"},
        ]
    )

    @job(approval_timeout="8h")
    def reviews(ctx: RunContext) -> str:
        return ctx.workflow("pay").tasks[0].status

    run_id = spine.run(reviews, model).run.id
    (task,) = spine.tasks(run_id)
    assert task.expires_at == NOON + timedelta(hours=8)
    spine.later(8 * HOUR)
    with pytest.raises(TransitionRefused, match="nobody answered"):
        approve_task(spine.deployment, task.id, by="ada", note="")
    (task,) = spine.tasks(run_id)
    assert (task.status, task.reason, task.via) == (TaskStatus.REJECTED, "nobody answered", Via.EXPIRY)
    assert spine.run_of(run_id).reason == task.expiry


def test_an_agent_is_told(spine: Spine) -> None:
    replies = [
        {"tasks": [{"title": "Refund", "priority": "low", "description": ""}]},
        {"verdict": "APPROVE", "reason": "fine"},
        [tool_call("refund", customer="4711")],
    ]

    @job(tools=[refund], approval_timeout="2h")
    def night(ctx: RunContext) -> str:
        return ctx.workflow("refund 4711").tasks[0].reason

    run_id = spine.run(night, ScriptedModel(replies)).run.id
    spine.later(2 * HOUR)
    model = ScriptedModel(["nothing more can be done"])
    # The command that meets it first records it.
    ran = spine.resume(night, run_id, model)
    assert "nobody answered" in model.requests[0].messages[-1].content
    assert (ran.run.status, ran.run.reason.code) == (RunStatus.DENIED, "approval_expired")
    assert "nobody answered" in ran.run.result


@pytest.mark.parametrize("with_server", [False, True])
def test_the_next_fire_takes_the_place_of_a_run_that_waits(spine: Spine, with_server: bool) -> None:
    @job(schedule=every("1h"), approval_timeout="next_fire", tools=[refund])
    def hourly(ctx: RunContext) -> str:
        return ctx.call(refund, customer="4711")

    spine.due(hourly)
    run_id = spine.run(hourly).run.id
    (asked,) = spine.decisions(run_id)
    assert asked.expires_at == NOON + timedelta(hours=1)
    spine.later(HOUR)
    if with_server:
        spine.awake()
        # As each tick of a server does, and each command.
        spine.ledger.expire()
        spine.due(hourly)
        assert list(spine.outcomes("hourly").values()) == ["buffered"]
    else:
        assert spine.claim(hourly, scheduled_for=NOON + timedelta(hours=1)).run.id != run_id
    assert (spine.run_of(run_id).status, spine.run_of(run_id).reason) == (RunStatus.DENIED, asked.expiry)


def test_a_fire_of_a_job_with_another_time_is_skipped(spine: Spine) -> None:
    @job(schedule=every("1h"), approval_timeout="90m", tools=[refund])
    def hourly(ctx: RunContext) -> str:
        return ctx.call(refund, customer="4711")

    spine.due(hourly)
    run_id = spine.run(hourly).run.id
    spine.later(HOUR)
    spine.due(hourly)
    assert list(spine.outcomes("hourly").values()) == ["skipped_overlap"]
    spine.later(HOUR)
    spine.ledger.expire()
    spine.due(hourly)
    assert (spine.run_of(run_id).status, list(spine.outcomes("hourly").values())) == (RunStatus.DENIED, ["skipped_overlap", "buffered"])


def test_the_settings_say_how_long_by_default(tmp_path: Path) -> None:
    spine = asking(tmp_path, settings='approval_timeout = "30m"')
    (asked,) = spine.decisions(spine.run(refunds).run.id)
    assert asked.expires_at == NOON + timedelta(minutes=30)
    spine.close()
