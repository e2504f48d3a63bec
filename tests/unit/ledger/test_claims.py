"""Who may start a run: fires are claimed once, overlap is judged on leases, lost runs are taken over or closed."""

import dataclasses
import threading
from datetime import datetime, timedelta

import pytest

from taskpilot import Retry, RunContext, cron, job
from taskpilot.domain.errors import LeaseLost
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Outcome, Owner, RunStatus
from taskpilot.ledger.claims import Claim, Skip
from taskpilot.ledger.ledger import Ledger
from tests.spine import NOON, Spine

HOUR = timedelta(hours=1)


@job(schedule=cron("0 * * * *"), retry=Retry(attempts=2))
def hourly(ctx: RunContext) -> None:
    """Do nothing."""


@job(name="crowded", overlap="allow_all")
def crowded(ctx: RunContext) -> None:
    """Do nothing, as often as one likes at a time."""


def skip(spine: Spine, scheduled_for: datetime | None = None) -> Skip:
    found = spine.ledger.claim(spine.plan(hourly, scheduled_for=scheduled_for))
    assert isinstance(found, Skip), found
    return found


def test_a_claimed_run_is_running_and_its_lease_is_ours(spine: Spine) -> None:
    claim = spine.claim(hourly)
    assert (claim.run.status, claim.run.attempts, claim.run.attempts_allowed) == (RunStatus.RUNNING, 1, 2)
    assert claim.grant.expires_at == spine.clock.boot() + timedelta(seconds=30)
    assert spine.row(claim.run.id).lease_token == claim.grant.token


def test_a_second_run_of_the_job_is_skipped_while_the_first_one_lives(spine: Spine) -> None:
    first = spine.claim(hourly)
    found = skip(spine)
    assert (found.outcome, found.exit_code) == (FireOutcome.SKIPPED_OVERLAP, ExitCode.SKIPPED_OVERLAP)
    assert found.reason == Reason(ReasonCode.RUN_ACTIVE, {"run_id": first.run.id})


def test_overlap_allow_all_starts_both(spine: Spine) -> None:
    spine.claim(crowded)
    spine.claim(crowded)


def test_another_job_is_none_of_its_business(spine: Spine) -> None:
    spine.claim(hourly)
    spine.claim(crowded)


def test_a_waiting_run_holds_no_slot(spine: Spine) -> None:
    first = spine.claim(hourly)
    spine.ledger.end(first.grant, Outcome(RunStatus.WAITING, Reason(ReasonCode.APPROVAL)), active_seconds=1, keep_lease=True)
    spine.claim(hourly)


def test_a_fire_is_claimed_once(spine: Spine) -> None:
    first = spine.claim(hourly, scheduled_for=NOON)
    spine.ledger.end(first.grant, Outcome(RunStatus.SUCCEEDED), active_seconds=1, keep_lease=True)
    found = skip(spine, NOON)
    assert (found.outcome, found.exit_code) == (FireOutcome.STARTED, ExitCode.SKIPPED)
    taken = {"scheduled_for": "2026-11-23T12:00:00Z", "outcome": "started", "run_id": first.run.id, "run_status": "succeeded"}
    assert found.reason == Reason(ReasonCode.ALREADY_CLAIMED, taken)


def test_of_many_claimers_of_one_fire_one_gets_it(spine: Spine) -> None:
    found: list[Claim | Skip] = []
    barrier = threading.Barrier(6)

    def claim() -> None:
        plan = spine.plan(hourly, scheduled_for=NOON)
        barrier.wait(10)
        found.append(spine.ledger.claim(plan))

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(each).__name__ for each in found) == ["Claim", *["Skip"] * 5]
    assert spine.total("taskpilot_fires_total") == {'{"outcome":"started"}': 1}


def test_a_fire_that_met_a_living_run_is_recorded_as_skipped_and_stays_so(spine: Spine) -> None:
    first = spine.claim(hourly)
    assert skip(spine, NOON).outcome is FireOutcome.SKIPPED_OVERLAP
    spine.ledger.end(first.grant, Outcome(RunStatus.SUCCEEDED), active_seconds=1, keep_lease=True)
    again = skip(spine, NOON)
    assert again.exit_code is ExitCode.SKIPPED
    assert (again.reason.facts["outcome"], again.reason.facts["cause"]) == ("skipped_overlap", "run_active")
    assert spine.total("taskpilot_fires_total") == {'{"outcome":"skipped_overlap"}': 1}


def test_the_data_interval_begins_at_the_fire_before(spine: Spine) -> None:
    first = spine.claim(hourly, scheduled_for=NOON - HOUR)
    assert first.run.previous_fire is None
    spine.ledger.end(first.grant, Outcome(RunStatus.SUCCEEDED), active_seconds=1, keep_lease=True)
    second = spine.claim(hourly, scheduled_for=NOON)
    assert (second.run.previous_fire, second.run.scheduled_for) == (NOON - HOUR, NOON)
    assert second.run.previous_success == NOON


def test_lateness_is_observed_in_microseconds(spine: Spine) -> None:
    spine.claim(hourly, scheduled_for=NOON - timedelta(seconds=90))
    assert spine.total("taskpilot_fire_lateness_seconds_sum") == {"{}": 90_000_000}


def test_a_fire_whose_run_is_lost_goes_on_with_that_run_while_attempts_are_left(spine: Spine) -> None:
    first = spine.claim(hourly, scheduled_for=NOON)
    spine.later(31)
    second = spine.claim(hourly, scheduled_for=NOON)
    assert (second.run.id, second.grant.attempt) == (first.run.id, 2)
    spine.later(31)
    found = skip(spine, NOON)
    assert (found.exit_code, found.reason.code) == (ExitCode.SKIPPED, ReasonCode.NO_ATTEMPT_LEFT)
    assert spine.run_of(first.run.id).status is RunStatus.LOST


def test_a_run_without_a_fire_closes_the_lost_one_and_starts_a_new_one(spine: Spine) -> None:
    first = spine.claim(hourly)
    spine.later(31)
    second = spine.claim(hourly)
    assert second.run.id != first.run.id
    assert (spine.run_of(first.run.id).status, spine.run_of(first.run.id).reason.code) == (RunStatus.LOST, ReasonCode.LEASE)


def test_a_process_that_is_gone_on_this_host_is_not_waited_for(spine: Spine) -> None:
    deployment = spine.deployment
    gone = Owner("here", "boot", 1, 1)
    other = Ledger(spine.store, owner=gone, is_gone=lambda owner: owner == gone, lease_seconds=30, now=deployment.now)
    other.claim(spine.plan(hourly))
    asked = Ledger(spine.store, owner=deployment.owner, is_gone=lambda owner: owner == gone, lease_seconds=30, now=deployment.now)
    assert isinstance(asked.claim(spine.plan(hourly)), Claim)


def test_a_stale_holder_can_write_nothing_any_more(spine: Spine) -> None:
    first = spine.claim(hourly, scheduled_for=NOON)
    spine.later(31)
    spine.claim(hourly, scheduled_for=NOON)
    assert spine.ledger.renew(first.grant, active_seconds=40) is False
    for write in (
        lambda: spine.ledger.end(first.grant, Outcome(RunStatus.SUCCEEDED), active_seconds=1, keep_lease=True),
        lambda: spine.ledger.next_attempt(first.grant, spine.plan(hourly).spec),
        lambda: spine.ledger.give_up(first.grant, Outcome(RunStatus.CANCELLED)),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert spine.run_of(first.run.id).status is RunStatus.RUNNING


def test_a_renewal_prolongs_the_lease_and_counts_active_time_once(spine: Spine) -> None:
    claim = spine.claim(hourly)
    started = spine.clock.boot()
    for seconds in (10, 20, 15):
        spine.later(10)
        assert spine.ledger.renew(claim.grant, active_seconds=seconds)
    assert spine.run_of(claim.run.id).active_micros == 20_000_000
    assert spine.row(claim.run.id).lease_expires_at == (started + timedelta(seconds=60)).micros


def test_active_time_is_summed_over_attempts(spine: Spine) -> None:
    claim = spine.claim(hourly)
    spine.ledger.end(claim.grant, Outcome(RunStatus.LOST, Reason(ReasonCode.SIGNAL), retry=True), active_seconds=3, keep_lease=True)
    grant = spine.ledger.next_attempt(claim.grant, spine.plan(hourly).spec)
    spine.ledger.end(grant, Outcome(RunStatus.SUCCEEDED), active_seconds=4, keep_lease=True)
    run = spine.run_of(claim.run.id)
    assert (run.status, run.active_micros, run.attempts) == (RunStatus.SUCCEEDED, 7_000_000, 2)
    assert spine.total("taskpilot_run_duration_seconds_sum") == {"{}": 7_000_000}


def test_an_attempt_ends_once(spine: Spine) -> None:
    claim = spine.claim(hourly)
    spine.ledger.end(claim.grant, Outcome(RunStatus.FAILED, Reason(ReasonCode.EXCEPTION), retry=True), active_seconds=1, keep_lease=True)
    with pytest.raises(LeaseLost):
        spine.ledger.end(claim.grant, Outcome(RunStatus.SUCCEEDED), active_seconds=1, keep_lease=True)
    assert spine.run_of(claim.run.id).status is RunStatus.QUEUED


@pytest.mark.parametrize(
    ("outcome", "after"),
    [
        (Outcome(RunStatus.FAILED, Reason(ReasonCode.EXCEPTION), retry=True), RunStatus.QUEUED),
        (Outcome(RunStatus.LOST, Reason(ReasonCode.SIGNAL), retry=True), RunStatus.QUEUED),
        (Outcome(RunStatus.FAILED, Reason(ReasonCode.OUTCOME_FAILED)), RunStatus.FAILED),
        (Outcome(RunStatus.TIMED_OUT, Reason(ReasonCode.DEADLINE), retry=True), RunStatus.TIMED_OUT),
        (Outcome(RunStatus.CANCELLED, Reason(ReasonCode.SIGINT), retry=True), RunStatus.CANCELLED),
        (Outcome(RunStatus.DENIED, Reason(ReasonCode.DENIED), retry=True), RunStatus.DENIED),
        (Outcome(RunStatus.BUDGET_EXCEEDED, Reason(ReasonCode.BUDGET), retry=True), RunStatus.BUDGET_EXCEEDED),
        (Outcome(RunStatus.WAITING, Reason(ReasonCode.APPROVAL), retry=True), RunStatus.WAITING),
    ],
)
def test_only_a_failed_or_lost_attempt_that_may_help_is_followed_by_another_one(spine: Spine, outcome: Outcome, after: RunStatus) -> None:
    claim = spine.claim(hourly)
    assert spine.ledger.end(claim.grant, outcome, active_seconds=1, keep_lease=True) is after
    assert (spine.row(claim.run.id).lease_token is not None) is (after is RunStatus.QUEUED)


def test_the_last_attempt_is_not_followed_by_another_one(spine: Spine) -> None:
    claim = spine.claim(hourly)
    lost = Outcome(RunStatus.LOST, Reason(ReasonCode.SIGNAL), retry=True)
    spine.ledger.end(claim.grant, lost, active_seconds=1, keep_lease=True)
    grant = spine.ledger.next_attempt(claim.grant, spine.plan(hourly).spec)
    assert spine.ledger.end(grant, lost, active_seconds=1, keep_lease=True) is RunStatus.LOST
    assert spine.total("taskpilot_runs_total") == {'{"status":"lost"}': 1}
    assert spine.total("taskpilot_attempts_total") == {"{}": 2}


def test_a_result_of_an_attempt_that_failed_is_not_the_result_of_the_one_after(spine: Spine) -> None:
    claim = spine.claim(hourly)
    failed = Outcome(RunStatus.FAILED, Reason(ReasonCode.EVERY_ITEM_FAILED), result="0 of 2 handled", retry=True)
    spine.ledger.end(claim.grant, failed, active_seconds=1, keep_lease=True)
    grant = spine.ledger.next_attempt(claim.grant, spine.plan(hourly).spec)
    spine.ledger.end(grant, Outcome(RunStatus.SUCCEEDED), active_seconds=1, keep_lease=True)
    assert spine.run_of(claim.run.id).result is None


def test_a_callers_trace_is_gone_on_with(spine: Spine) -> None:
    plan = dataclasses.replace(spine.plan(hourly), traceparent=f"00-{'ab' * 16}-{'cd' * 8}-01")
    claim = spine.ledger.claim(plan)
    assert isinstance(claim, Claim)
    assert claim.run.trace_id == "ab" * 16
