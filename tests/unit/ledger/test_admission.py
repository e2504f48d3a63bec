"""What stands in the way of a run that somebody asks for, and what is recorded of it."""

from datetime import timedelta
from typing import Any

import pytest

from taskpilot import Retry, RunContext, cron, job
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Outcome, RunStatus
from taskpilot.ledger.claims import Hold, Skip
from taskpilot.store.schedules import end_pause
from tests.spine import NOON, Spine

HOUR = timedelta(hours=1)
FIRES = "taskpilot_fires_total"
HOURLY = cron("0 * * * *")


@job(schedule=HOURLY)
def hourly(ctx: RunContext) -> None:
    """Do nothing."""


@job(schedule=HOURLY, start_deadline="5m")
def prompt(ctx: RunContext) -> None:
    """Do nothing."""


@job(schedule=HOURLY, overlap="buffer_one")
def buffer_one(ctx: RunContext) -> None:
    """Do nothing."""


@job(schedule=HOURLY, overlap="buffer_all")
def buffer_all(ctx: RunContext) -> None:
    """Do nothing."""


@job(schedule=HOURLY, overlap="cancel_other")
def cancel_other(ctx: RunContext) -> None:
    """Do nothing."""


@job(schedule=HOURLY, overlap="terminate_other")
def terminate_other(ctx: RunContext) -> None:
    """Do nothing."""


WAITERS = [buffer_one, buffer_all, cancel_other, terminate_other]
ENDERS = [cancel_other, terminate_other]


def test_a_paused_job_does_not_run_and_its_fire_says_by_whom(spine: Spine) -> None:
    spine.pause("hourly")
    found = spine.refused(hourly, scheduled_for=NOON)
    assert isinstance(found, Skip)
    assert (found.outcome, found.exit_code) == (FireOutcome.PAUSED, ExitCode.SKIPPED)
    assert found.reason == Reason(ReasonCode.PAUSED, {"since": "2026-11-23T12:00:00Z", "by": "anna", "note": "the tracker moves"})
    fire = spine.fire("hourly", NOON)
    assert fire is not None
    assert fire.reason == found.reason
    assert spine.total(FIRES) == {'{"outcome":"paused"}': 1}


def test_a_paused_job_is_not_run_by_hand_either_and_no_fire_is_recorded(spine: Spine) -> None:
    spine.pause("hourly")
    found = spine.refused(hourly)
    assert isinstance(found, Skip)
    assert found.exit_code is ExitCode.SKIPPED
    assert spine.outcomes("hourly") == {}
    with spine.store.write() as connection:
        end_pause(connection, "hourly", by="anna", note="", now=spine.clock())
    spine.claim(hourly)


def test_a_fire_whose_start_deadline_has_passed_is_missed(spine: Spine) -> None:
    found = spine.refused(prompt, scheduled_for=NOON - timedelta(minutes=5, microseconds=1))
    assert isinstance(found, Skip)
    assert (found.outcome, found.exit_code) == (FireOutcome.MISSED, ExitCode.SKIPPED)
    assert list(spine.outcomes("prompt").values()) == ["missed"]
    spine.claim(prompt, scheduled_for=NOON - timedelta(minutes=5))


def test_a_fire_in_a_gap_is_closed_and_says_as_what(spine: Spine) -> None:
    spine.due(hourly)
    spine.later(50 * HOUR.total_seconds())
    spine.due(hourly)
    found = spine.refused(hourly, scheduled_for=NOON + HOUR)
    assert isinstance(found, Skip)
    assert (found.outcome, found.exit_code) == (FireOutcome.MISSED, ExitCode.SKIPPED)
    assert sum(spine.total(FIRES).values()) == 49


@pytest.mark.parametrize("waiter", WAITERS)
def test_a_run_by_hand_waits_for_the_active_one_and_leaves_no_fire(spine: Spine, waiter: Any) -> None:
    active = spine.claim(waiter)
    found = spine.refused(waiter)
    assert isinstance(found, Hold)
    assert found.reason == Reason(ReasonCode.RUN_ACTIVE, {"run_id": active.run.id})
    assert spine.outcomes(waiter.__name__) == {}


@pytest.mark.parametrize("waiter", WAITERS)
def test_the_fire_of_a_command_that_waits_stands_in_the_queue_and_starts_later(spine: Spine, waiter: Any) -> None:
    name = waiter.__name__
    active = spine.claim(waiter)
    for _ in range(2):
        assert isinstance(spine.refused(waiter, scheduled_for=NOON), Hold)
    assert spine.outcomes(name) == {NOON: "buffered"}
    assert spine.total(FIRES) == {}
    spine.succeed(active)
    spine.claim(waiter, scheduled_for=NOON)
    assert spine.outcomes(name) == {NOON: "started"}
    assert spine.total(FIRES) == {'{"outcome":"started"}': 1}


def test_one_fire_waits_under_buffer_one_and_the_next_is_skipped(spine: Spine) -> None:
    active = spine.claim(buffer_one)
    assert isinstance(spine.refused(buffer_one, scheduled_for=NOON), Hold)
    found = spine.refused(buffer_one, scheduled_for=NOON + HOUR)
    assert isinstance(found, Skip)
    assert (found.outcome, found.exit_code) == (FireOutcome.SKIPPED_OVERLAP, ExitCode.SKIPPED_OVERLAP)
    assert spine.outcomes("buffer_one") == {NOON: "buffered", NOON + HOUR: "skipped_overlap"}
    fire = spine.fire("buffer_one", NOON + HOUR)
    assert fire is not None
    assert fire.reason == found.reason == Reason(ReasonCode.FIRE_WAITING, {"fire": "2026-11-23T12:00:00Z", "run_id": active.run.id})


def test_every_fire_waits_under_buffer_all(spine: Spine) -> None:
    spine.claim(buffer_all)
    for fire in (NOON, NOON + HOUR):
        assert isinstance(spine.refused(buffer_all, scheduled_for=fire), Hold)
    assert spine.outcomes("buffer_all") == {NOON: "buffered", NOON + HOUR: "buffered"}


@pytest.mark.parametrize(("ender", "grace"), [(cancel_other, timedelta(seconds=10)), (terminate_other, timedelta(0))])
def test_a_newer_fire_ends_the_active_run_and_takes_the_place_of_what_waited(spine: Spine, ender: Any, grace: timedelta) -> None:
    name = ender.__name__
    active = spine.claim(ender)
    spine.refused(ender, scheduled_for=NOON)
    spine.refused(ender, scheduled_for=NOON + HOUR)
    run = spine.run_of(active.run.id)
    assert (run.status, run.cancel_requested, run.cancel_grace) == (RunStatus.RUNNING, True, grace)
    assert spine.outcomes(name) == {NOON: "skipped_overlap", NOON + HOUR: "buffered"}
    fire = spine.fire(name, NOON)
    assert fire is not None
    assert fire.reason == Reason(ReasonCode.REPLACED, {"fire": "2026-11-23T13:00:00Z"})


def test_what_a_person_cancelled_keeps_the_persons_grace(spine: Spine) -> None:
    active = spine.claim(terminate_other)
    spine.ledger.cancel(active.run.id)
    spine.refused(terminate_other)
    run = spine.run_of(active.run.id)
    assert (run.cancel_requested, run.cancel_grace) == (True, None)


def test_a_run_that_no_process_has_is_replaced_at_once(spine: Spine) -> None:
    spine.awake()
    queued = spine.ledger.enqueue(spine.plan(cancel_other))
    assert isinstance(spine.refused(cancel_other), Hold)
    run = spine.run_of(queued.id)
    assert (run.status, run.reason.code) == (RunStatus.CANCELLED, ReasonCode.REPLACED)
    spine.claim(cancel_other)


def test_without_a_server_a_run_in_its_queue_stands_in_nobodys_way(spine: Spine) -> None:
    queued = spine.ledger.enqueue(spine.plan(hourly))
    spine.claim(hourly)
    assert spine.run_of(queued.id).status is RunStatus.LOST


def test_a_buffered_fire_that_meets_another_run_goes_on_waiting_even_where_overlap_skips(spine: Spine) -> None:
    spine.due(hourly)
    spine.later(HOUR.total_seconds())
    spine.due(hourly)
    active = spine.claim(hourly)
    assert isinstance(spine.refused(hourly, scheduled_for=NOON + HOUR), Hold)
    spine.succeed(active)
    spine.claim(hourly, scheduled_for=NOON + HOUR)


def failing(pause_on_failure: Any) -> Any:
    @job(name="fragile", pause_on_failure=pause_on_failure)
    def fragile(ctx: RunContext) -> None:
        """Do nothing."""

    return fragile


def ended(spine: Spine, function: Any, *statuses: RunStatus) -> None:
    for status in statuses:
        spine.later(1)
        claim = spine.claim(function)
        spine.ledger.end(claim.grant, Outcome(status), active_seconds=1, keep_lease=False)


OK, BAD = RunStatus.SUCCEEDED, RunStatus.FAILED


@pytest.mark.parametrize(
    ("wanted", "statuses", "paused"),
    [
        (None, [BAD] * 5, False),
        (True, [OK], False),
        (True, [BAD], True),
        (3, [BAD, BAD], False),
        (3, [BAD, RunStatus.TIMED_OUT, RunStatus.DENIED], True),
        (3, [BAD, BAD, OK, BAD, BAD], False),
        (3, [BAD, BAD, RunStatus.CANCELLED], False),
        (3, [BAD, BAD, RunStatus.CANCELLED, RunStatus.BUDGET_EXCEEDED], True),
        (3, [OK, BAD, RunStatus.WAITING, BAD, BAD], True),
    ],
)
def test_so_many_bad_ends_in_a_row_pause_the_job(spine: Spine, wanted: Any, statuses: list[RunStatus], paused: bool) -> None:
    function = failing(wanted)
    ended(spine, function, *statuses)
    if not paused:
        spine.claim(function)
        return
    found = spine.refused(function)
    assert isinstance(found, Skip)
    assert found.outcome is FireOutcome.PAUSED
    assert found.reason.facts["by"] == "taskpilot"
    assert str(found.reason.facts["note"]).startswith(f"pause_on_failure={int(wanted)}:")


def test_an_attempt_that_will_be_followed_pauses_nothing(spine: Spine) -> None:
    @job(name="fragile", pause_on_failure=1, retry=Retry(attempts=2))
    def fragile(ctx: RunContext) -> None:
        """Do nothing."""

    claim = spine.claim(fragile)
    spine.ledger.end(claim.grant, Outcome(BAD, retry=True), active_seconds=1, keep_lease=True)
    grant = spine.ledger.next_attempt(claim.grant, spine.plan(fragile).spec)
    spine.ledger.end(grant, Outcome(OK), active_seconds=1, keep_lease=False)
    spine.claim(fragile)


def test_a_person_who_resumes_the_job_gives_it_all_of_its_chances_again(spine: Spine) -> None:
    function = failing(2)
    ended(spine, function, BAD, BAD)
    with spine.store.write() as connection:
        end_pause(connection, "fragile", by="anna", note="", now=spine.clock())
    ended(spine, function, BAD)
    ended(spine, function, BAD)
    assert isinstance(spine.refused(function), Skip)
