"""Where no server is awake: what a command's claim says of the fires around it, and what is missed for good."""

from datetime import timedelta

from taskpilot import RunContext, cron, job
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import FireOutcome
from taskpilot.ledger.claims import Hold, Skip
from tests.spine import NOON, Spine
from tests.unit.ledger.idle_jobs import hourly, minutely, strict, unscheduled

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@job(schedule=cron("0 * * * *"), overlap="buffer_one")
def patient(ctx: RunContext) -> None:
    """Do nothing."""


def test_with_cron_alone_the_fires_before_the_claimed_one_are_missed_or_covered_by_it(spine: Spine) -> None:
    first = spine.claim(hourly, scheduled_for=NOON)
    spine.succeed(first)
    spine.later(3 * HOUR.total_seconds() + 60)
    spine.claim(hourly, scheduled_for=NOON + 3 * HOUR)
    assert spine.outcomes("hourly") == {NOON: "started", NOON + HOUR: "missed", NOON + 2 * HOUR: "missed", NOON + 3 * HOUR: "started"}
    assert spine.cursor("hourly") == NOON + 3 * HOUR


def test_with_cron_alone_a_fire_in_the_window_is_covered_by_the_next(spine: Spine) -> None:
    spine.succeed(spine.claim(minutely, scheduled_for=NOON))
    spine.later(121)
    spine.succeed(spine.claim(minutely, scheduled_for=NOON + 2 * MINUTE))
    assert spine.outcomes("minutely") == {NOON: "started", NOON + MINUTE: "coalesced", NOON + 2 * MINUTE: "started"}


def test_with_cron_alone_a_job_that_skips_catching_up_covers_nothing(spine: Spine) -> None:
    spine.succeed(spine.claim(strict, scheduled_for=NOON))
    spine.later(2 * HOUR.total_seconds())
    spine.claim(strict, scheduled_for=NOON + 2 * HOUR)
    assert spine.outcomes("strict")[NOON + HOUR] == "missed"


def test_beside_a_server_a_command_says_nothing_of_other_fires(spine: Spine) -> None:
    spine.due(hourly)
    spine.later(2 * HOUR.total_seconds())
    spine.awake()
    spine.claim(hourly, scheduled_for=NOON + 2 * HOUR)
    assert (spine.outcomes("hourly"), spine.cursor("hourly")) == ({NOON + 2 * HOUR: "started"}, NOON)


def test_a_claim_for_a_time_to_come_closes_nothing_before_it(spine: Spine) -> None:
    spine.due(hourly)
    spine.claim(hourly, scheduled_for=NOON + 5 * HOUR)
    assert (spine.outcomes("hourly"), spine.cursor("hourly")) == ({NOON + 5 * HOUR: "started"}, NOON)


def test_a_claim_for_a_time_that_is_no_fire_is_not_taken_for_one(spine: Spine) -> None:
    spine.due(hourly)
    spine.later(60 * HOUR.total_seconds())
    spine.claim(hourly, scheduled_for=NOON + MINUTE)
    assert spine.cursor("hourly") == NOON
    assert spine.due(hourly).outcomes == {FireOutcome.MISSED: 59, FireOutcome.SKIPPED_OVERLAP: 1}
    assert [gap.count for gap in spine.gaps("hourly")] == [59]


def test_a_fire_in_a_gap_is_claimed_by_nobody_later(spine: Spine) -> None:
    spine.due(hourly)
    spine.later(60 * HOUR.total_seconds())
    spine.due(hourly)
    found = spine.refused(hourly, scheduled_for=NOON + 3 * HOUR)
    assert isinstance(found, Skip)
    assert (found.outcome, found.reason.code) == (FireOutcome.MISSED, ReasonCode.ALREADY_CLAIMED)
    facts = found.reason.facts
    assert (facts["scheduled_for"], facts["cause"], facts["unseen"]) == ("2026-11-23T15:00:00Z", "catch_up_window_passed", "late")
    # What is no fire of it may be run by hand.
    spine.claim(hourly, scheduled_for=NOON + 3 * HOUR + MINUTE)


def test_what_nobody_can_claim_any_more_is_missed_where_no_server_is_awake(spine: Spine) -> None:
    folder = spine.defined(hourly, unscheduled)
    spine.later(2 * HOUR.total_seconds() + 1_799)
    assert spine.fires.close_missed(folder).outcomes == {FireOutcome.MISSED: 1}
    assert spine.outcomes("hourly") == {NOON + HOUR: "missed"}, "13:30 has passed for the fire of 13:00; 14:00 has its half period left"
    spine.later(2)
    claimed = spine.fires.close_missed(folder)
    assert (claimed.outcomes, claimed.jobs) == ({FireOutcome.MISSED: 1}, {"hourly"})
    assert spine.fires.close_missed(folder).outcomes == {}


def test_beside_a_server_nothing_is_said_to_be_missed(spine: Spine) -> None:
    folder = spine.defined(hourly)
    spine.later(10 * HOUR.total_seconds())
    spine.awake()
    assert spine.fires.close_missed(folder).outcomes == {}
    assert spine.outcomes("hourly") == {}


def test_what_is_due_in_a_pause_is_not_said_to_be_missed(spine: Spine) -> None:
    folder = spine.defined(hourly)
    spine.later(HOUR.total_seconds() + 60)
    spine.pause("hourly")
    spine.later(10 * HOUR.total_seconds())
    assert spine.fires.close_missed(folder).outcomes == {FireOutcome.MISSED: 1, FireOutcome.PAUSED: 9}
    assert spine.outcomes("hourly")[NOON + HOUR] == "missed"
    assert spine.due(hourly).outcomes == {FireOutcome.PAUSED: 1}


def test_the_first_claim_of_a_job_makes_nobody_owe_what_was_due_before(spine: Spine) -> None:
    spine.succeed(spine.claim(hourly, scheduled_for=NOON - 100 * HOUR))
    assert spine.cursor("hourly") == NOON
    assert spine.fires.close_missed(spine.defined(hourly)).outcomes == {}
    assert spine.outcomes("hourly") == {NOON - 100 * HOUR: "started"}


def test_a_schedule_begins_with_the_fire_that_a_command_claims_in_its_time(spine: Spine) -> None:
    spine.later(5)
    spine.claim(hourly, scheduled_for=NOON)
    assert spine.cursor("hourly") == NOON


def test_a_buffered_fire_whose_command_is_gone_is_missed(spine: Spine) -> None:
    first = spine.claim(patient, scheduled_for=NOON - HOUR)
    assert isinstance(spine.ledger.claim(spine.plan(patient, scheduled_for=NOON)), Hold)
    folder = spine.defined(patient)
    assert spine.fires.close_missed(folder).outcomes == {}, "the run that it waits for is active"
    spine.succeed(first)
    assert spine.fires.close_missed(folder).outcomes == {}, "its command may be about to start it"
    spine.later(60)
    assert spine.fires.close_missed(folder).outcomes == {FireOutcome.MISSED: 1}
    assert spine.outcomes("patient")[NOON] == "missed"


def test_a_buffered_fire_that_is_still_to_come_is_not_missed_before_its_time(spine: Spine) -> None:
    first = spine.claim(patient, scheduled_for=NOON)
    assert isinstance(spine.ledger.claim(spine.plan(patient, scheduled_for=NOON + HOUR)), Hold)
    folder = spine.defined(patient)
    spine.succeed(first)
    spine.later(HOUR.total_seconds())
    assert spine.fires.close_missed(folder).outcomes == {}, "another command may claim it now"
    spine.later(30)
    assert spine.fires.close_missed(folder).outcomes == {FireOutcome.MISSED: 1}


def test_what_was_due_before_a_pause_is_missed_and_not_paused(spine: Spine) -> None:
    spine.due(hourly)
    spine.later(90 * 60)
    spine.pause("hourly")
    spine.later(3 * 3_600)
    assert spine.due(hourly, asleep_since=NOON).outcomes == {FireOutcome.MISSED: 1, FireOutcome.PAUSED: 3}
    assert spine.outcomes("hourly")[NOON + HOUR] == "missed"
