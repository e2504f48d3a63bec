"""What an attempt came to: the first of the contract's statuses that applies, whatever the job swallowed."""

import sys
from typing import Any

import pytest

from taskpilot import Denied, ItemError, ModelUnavailable, Retry, RunContext, TaskPilotError, ToolFailed, job, tool
from taskpilot.context.session import Session
from taskpilot.domain.errors import (
    BudgetExceeded,
    ConfigurationError,
    DeadlineExceeded,
    LeaseLost,
    RequirementNotMet,
    Stop,
    StoreBusy,
    StoreError,
    Terminated,
    Waiting,
)
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import RunStatus, exit_code
from taskpilot.jobs.decorator import job_spec
from taskpilot.runner import Runner, judge
from taskpilot.testing import run_job
from tests.spine import Killed, Spine


@job(name="plain")
def plain(ctx: RunContext) -> None:
    """Do nothing."""


@pytest.fixture
def session(spine: Spine) -> Session:
    return spine.session(plain, spine.claim(plain).grant)


IN_ORDER: list[tuple[Stop, RunStatus]] = [
    (DeadlineExceeded(), RunStatus.TIMED_OUT),
    (BudgetExceeded(), RunStatus.BUDGET_EXCEEDED),
    (Waiting(), RunStatus.WAITING),
]


@pytest.mark.parametrize("index", range(len(IN_ORDER)))
def test_of_several_stops_the_first_status_in_the_contracts_order_applies(session: Session, index: int) -> None:
    session.stops.extend(stop for stop, _ in reversed(IN_ORDER[index:]))
    assert judge(session, "a result", ValueError("too")).status is IN_ORDER[index][1]
    assert judge(session, "a result", None).status is IN_ORDER[index][1]


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (ValueError("x"), RunStatus.FAILED, 1, True),
        (KeyboardInterrupt(), RunStatus.FAILED, 1, False),
        (TaskPilotError("x"), RunStatus.FAILED, 1, False),
        (ToolFailed("x"), RunStatus.FAILED, 1, True),
        (Denied("x"), RunStatus.DENIED, 14, False),
        (RequirementNotMet("x"), RunStatus.FAILED, 15, False),
        (ConfigurationError("x"), RunStatus.FAILED, 78, False),
        (ModelUnavailable("x"), RunStatus.FAILED, 75, True),
        (StoreError("x"), RunStatus.FAILED, 74, False),
        (StoreBusy("x"), RunStatus.FAILED, 75, True),
    ],
)
def test_an_error_that_left_the_job_says_status_code_and_whether_a_retry_may_help(
    session: Session, error: BaseException, status: RunStatus, code: int, retry: bool
) -> None:
    outcome = judge(session, None, error)
    assert (outcome.status, exit_code(outcome.status, outcome.reason.code), outcome.retry) == (status, code, retry)


def test_every_item_failed_comes_before_succeeded_and_keeps_the_result(session: Session) -> None:
    session.every_item_failed = ValueError("x")
    outcome = judge(session, "0 of 2", None)
    assert (outcome.status, outcome.reason.code, outcome.result) == (RunStatus.FAILED, ReasonCode.EVERY_ITEM_FAILED, "0 of 2")


def test_only_the_named_exceptions_of_a_job_are_tried_again(spine: Spine) -> None:
    @job(name="filtered", retry=Retry(attempts=3, on=ConnectionError))
    def filtered(ctx: RunContext) -> None:
        raise (ConnectionResetError if ctx.attempt == 1 else ValueError)("x")

    first = spine.run(filtered)
    assert first.run.status is RunStatus.QUEUED
    second = spine.attempt(filtered, spine.ledger.next_attempt(first.grant, job_spec(filtered)))
    assert (second.run.status, second.run.attempts) == (RunStatus.FAILED, 2)
    assert second.run.reason.facts == {"error": "x", "error_type": "ValueError", "retry_on": "ConnectionError"}


def test_the_last_attempt_says_nothing_of_trying_again(spine: Spine) -> None:
    @job(name="last", retry=Retry(attempts=1, on=ConnectionError))
    def last(ctx: RunContext) -> None:
        raise ValueError("x")

    assert "retry_on" not in spine.run(last).run.reason.facts


@pytest.mark.parametrize(
    ("causes", "again"),
    [
        ([TimeoutError("a"), TimeoutError("b")], True),
        ([ValueError("a"), TimeoutError("b")], True),
        ([ValueError("a"), KeyError("b")], False),
    ],
)
def test_where_every_item_failed_one_named_exception_is_enough(spine: Spine, causes: list[Exception], again: bool) -> None:
    @job(name="mapped", retry=Retry(attempts=2, on=(TimeoutError,)))
    def mapped(ctx: RunContext) -> int:
        def fail(error: Exception) -> None:
            raise error

        return len(ctx.map(fail, causes, on_error="collect"))

    assert spine.run(mapped).run.status is (RunStatus.QUEUED if again else RunStatus.FAILED)


def test_an_item_error_that_leaves_the_job_counts_by_its_cause(spine: Spine) -> None:
    @job(name="raised", retry=Retry(attempts=2, on=TimeoutError))
    def raised(ctx: RunContext) -> None:
        raise ItemError(index=0, item="x", cause=TimeoutError())

    assert spine.run(raised).run.status is RunStatus.QUEUED


def test_a_lost_attempt_and_a_busy_store_are_tried_again_whatever_is_named(spine: Spine, session: Session) -> None:
    @job(name="lost", retry=Retry(attempts=2, on=TimeoutError))
    def lost(ctx: RunContext) -> None:
        raise Killed

    assert spine.run_of(spine.killed(lost)).status is RunStatus.QUEUED
    session.spec = job_spec(lost)
    assert judge(session, None, StoreBusy("x")).retry


def test_an_errors_words_with_controls_are_one_harmless_line(session: Session) -> None:
    said = str(judge(session, None, ValueError("red \x1b[31m\nalert\u202e")).reason.facts["error"])
    assert said.isprintable()
    assert "\n" not in said


@pytest.mark.parametrize("code", [None, 0])
def test_a_job_that_leaves_by_exit_zero_succeeded(code: Any) -> None:
    @job()
    def leaves(ctx: RunContext) -> None:
        sys.exit(code)

    assert run_job(leaves).status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("code", [1, 3, "no", 2.5])
def test_a_job_that_leaves_by_another_exit_failed(code: Any) -> None:
    @job()
    def leaves(ctx: RunContext) -> None:
        sys.exit(code)

    ran = run_job(leaves)
    assert ran.status is RunStatus.FAILED
    assert (ran.reason_code, ran.reason_facts) == (ReasonCode.EXCEPTION, {"error_type": "SystemExit", "error": str(code)})


def test_a_result_that_is_no_json_fails_the_run_and_says_so() -> None:
    @job()
    def returns(ctx: RunContext) -> Any:
        return object()

    assert "cannot be recorded as JSON" in run_job(returns).reason


def test_terminated_is_left_to_the_supervisor(spine: Spine) -> None:
    @job()
    def stops(ctx: RunContext) -> None:
        raise Terminated

    claim = spine.claim(stops)
    with pytest.raises(Terminated):
        Runner(end=spine.ledger.end, now=spine.clock).run(spine.session(stops, claim.grant), claim.grant)
    assert spine.run_of(claim.run.id).status is RunStatus.RUNNING


def test_a_swallowed_lost_lease_is_no_success(spine: Spine) -> None:
    @tool
    def act() -> None:
        """Act."""

    @job(tools=[act])
    def swallows(ctx: RunContext) -> str:
        spine.later(31)
        try:
            ctx.call(act)
        except LeaseLost:
            return "fine"
        return "never"

    ran = spine.run(swallows)
    assert ran.outcome.status is RunStatus.LOST
    assert ran.run.result is None


def test_a_run_that_somebody_took_over_is_theirs_to_end(spine: Spine) -> None:
    @job(name="taken", retry=Retry(attempts=3))
    def taken(ctx: RunContext) -> str:
        spine.later(31)
        spine.ledger.resume(spine.plan(taken, run_id=ctx.run_id))
        return "too late"

    ran = spine.run(taken)
    assert ran.outcome.status is RunStatus.LOST
    assert (ran.run.status, ran.run.attempts, ran.run.result) == (RunStatus.RUNNING, 2, None)


def test_an_unmet_requirement_is_exit_15_and_says_what_was_not_met() -> None:
    @job()
    def checks(ctx: RunContext) -> str:
        ctx.require(1 + 1 == 2, "arithmetic")
        ctx.require([], "at least one ticket")
        return "never"

    ran = run_job(checks)
    assert (ran.exit_code, ran.reason_code, ran.reason_facts) == (15, ReasonCode.OUTCOME_FAILED, {"error": "at least one ticket"})


def test_parameters_that_do_not_fit_the_job_any_more_are_a_configuration_error(spine: Spine) -> None:
    @job(name="same")
    def before(ctx: RunContext, inbox: str = "a") -> None:
        raise ValueError

    @job(name="same")
    def after(ctx: RunContext) -> None:
        """It takes nothing now."""

    first = spine.run(before)
    second = spine.attempt(after, spine.ledger.resume(spine.plan(after, run_id=first.run.id)).grant)
    assert (second.run.status, second.run.reason.code) == (RunStatus.FAILED, ReasonCode.CONFIGURATION)
