"""What becomes of due fires, by the job's policies: decided without a store and without a clock."""

from datetime import timedelta
from typing import Any

import pytest

from taskpilot.domain.fires import PUNCTUAL, Fire, Gap
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome
from taskpilot.domain.specs import JobSpec
from taskpilot.ledger.due_policy import ROWS_MAX, Due, JobSnapshot, Judgement, Span, Stagger, close, counted, judge
from taskpilot.schedules.schedule import start_delay
from tests.spine import NOON

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BUSY = JobSnapshot(active_run="r1")
MISSED, COALESCED, SKIPPED, BUFFERED = FireOutcome.MISSED, FireOutcome.COALESCED, FireOutcome.SKIPPED_OVERLAP, FireOutcome.BUFFERED


def spec(**options: Any) -> JobSpec:
    return JobSpec(name="one", function=print, description="", **options)


def judged(
    *ages: timedelta, snapshot: JobSnapshot = JobSnapshot(), window: timedelta = HOUR, old: Span | None = None, **options: Any
) -> Judgement:
    """Fires that are so old now, the oldest first."""
    due = Due("one", "every 1m", old, tuple(NOON - age for age in ages), window)
    return judge(due, spec(**options), snapshot, now=NOON, stagger=Stagger(NOON))


def outcomes(found: Judgement) -> list[FireOutcome]:
    return [fire.outcome for fire in sorted(found.fires, key=lambda fire: fire.scheduled_for)]


@pytest.mark.parametrize("overlap", ["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other"])
@pytest.mark.parametrize("catch_up", ["last", "all"])
def test_while_a_run_waits_for_a_person_fires_are_skipped_and_do_not_pile_up(overlap: str, catch_up: str) -> None:
    asking = JobSnapshot(waiting_run="r1")
    found = judged(HOUR / 2, timedelta(0), snapshot=asking, overlap=overlap, catch_up=catch_up)
    assert {fire.outcome for fire in found.fires} <= {SKIPPED, COALESCED}
    assert found.fires[-1].reason == Reason(ReasonCode.RUN_WAITING, {"run_id": "r1"})
    assert not found.ends_active
    ignored = judged(timedelta(0), snapshot=asking, overlap=overlap, overlap_waiting="ignore")
    assert outcomes(ignored) == [BUFFERED]


def test_a_run_that_waits_holds_nothing_back_where_runs_may_overlap() -> None:
    assert outcomes(judged(timedelta(0), snapshot=JobSnapshot(waiting_run="r1"), overlap="allow_all")) == [BUFFERED]


NOW = timedelta(0)
LATE = PUNCTUAL


def test_a_fire_that_is_met_in_time_goes_into_the_queue_and_may_start_at_its_time() -> None:
    found = judged(timedelta(seconds=1))
    fire = NOON - timedelta(seconds=1)
    assert found.fires == [Fire("one", fire, BUFFERED, None, NO_REASON, NOON, fire)]
    assert (found.gaps, found.replaced, found.ends_active) == ([], [], False)


@pytest.mark.parametrize(
    ("overlap", "expected", "ends_active"),
    [
        ("skip", [SKIPPED, SKIPPED, SKIPPED], False),
        ("buffer_one", [BUFFERED, SKIPPED, SKIPPED], False),
        ("buffer_all", [BUFFERED, BUFFERED, BUFFERED], False),
        ("cancel_other", [SKIPPED, SKIPPED, BUFFERED], True),
        ("terminate_other", [SKIPPED, SKIPPED, BUFFERED], True),
        ("allow_all", [BUFFERED, BUFFERED, BUFFERED], False),
    ],
)
def test_three_fires_meet_an_active_run_as_the_overlap_says(overlap: str, expected: list[FireOutcome], ends_active: bool) -> None:
    found = judged(timedelta(seconds=20), timedelta(seconds=10), NOW, snapshot=BUSY, overlap=overlap)
    assert outcomes(found) == expected
    assert found.ends_active is ends_active


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("skip", [BUFFERED, SKIPPED]),
        ("buffer_one", [BUFFERED, SKIPPED]),
        ("buffer_all", [BUFFERED, BUFFERED]),
        ("cancel_other", [SKIPPED, BUFFERED]),
        ("terminate_other", [SKIPPED, BUFFERED]),
        ("allow_all", [BUFFERED, BUFFERED]),
    ],
)
def test_of_two_fires_at_once_the_second_meets_the_first(overlap: str, expected: list[FireOutcome]) -> None:
    found = judged(timedelta(seconds=10), NOW, overlap=overlap)
    assert outcomes(found) == expected
    assert found.ends_active is False


def test_a_skipped_fire_names_the_run_that_it_met() -> None:
    assert judged(NOW, snapshot=BUSY).fires[0].reason == Reason(ReasonCode.RUN_ACTIVE, {"run_id": "r1"})


def test_a_fire_that_waits_from_before_is_met_too() -> None:
    waits = NOON - timedelta(minutes=5)
    snapshot = JobSnapshot(waiting=(waits,))
    assert outcomes(judged(NOW, snapshot=snapshot, overlap="skip")) == [SKIPPED]
    assert outcomes(judged(NOW, snapshot=snapshot, overlap="buffer_one")) == [SKIPPED]
    newer = judged(NOW, snapshot=snapshot, overlap="cancel_other")
    replaced = [(waits, Reason(ReasonCode.REPLACED, {"fire": "2026-11-23T12:00:00Z"}))]
    assert (outcomes(newer), newer.replaced, newer.ends_active) == ([BUFFERED], replaced, False)


def test_catch_up_skip_runs_nothing_that_is_late() -> None:
    found = judged(10 * MINUTE, LATE, NOW, catch_up="skip")
    assert outcomes(found) == [MISSED, MISSED, BUFFERED]
    assert found.fires[0].reason.code is ReasonCode.CATCH_UP_OFF


def test_catch_up_last_runs_the_newest_late_fire_and_says_which_one_it_covers_the_others_with() -> None:
    found = judged(30 * MINUTE, 20 * MINUTE, 10 * MINUTE, snapshot=JobSnapshot(not_met={"unseen": "asleep"}))
    assert outcomes(found) == [COALESCED, COALESCED, BUFFERED]
    assert found.fires[0].reason == Reason(ReasonCode.CAUGHT_UP_BY, {"fire": "2026-11-23T11:50:00Z", "unseen": "asleep"})


def test_catch_up_last_runs_no_late_fire_where_one_is_due_in_time() -> None:
    assert outcomes(judged(10 * MINUTE, LATE, NOW)) == [COALESCED, COALESCED, BUFFERED]


def test_catch_up_all_runs_the_newest_as_many_as_the_limit_says() -> None:
    found = judged(4 * MINUTE, 3 * MINUTE, 2 * MINUTE, 1 * MINUTE, catch_up="all", catch_up_limit=2)
    assert outcomes(found) == [MISSED, MISSED, BUFFERED, BUFFERED]
    assert found.fires[0].reason == Reason(ReasonCode.CATCH_UP_LIMIT, {"limit": 2, "unseen": "late"})


def test_catch_up_all_leaves_out_nothing_for_an_active_run() -> None:
    for overlap in ("skip", "buffer_one", "cancel_other"):
        found = judged(3 * MINUTE, 2 * MINUTE, NOW, snapshot=BUSY, catch_up="all", overlap=overlap)
        assert outcomes(found) == [BUFFERED] * 3
        assert found.ends_active is False


@pytest.mark.parametrize("catch_up", ["last", "all"])
def test_what_is_older_than_the_window_is_missed_and_what_is_exactly_as_old_is_not(catch_up: str) -> None:
    found = judged(HOUR + timedelta(microseconds=1), HOUR, window=HOUR, catch_up=catch_up)
    assert outcomes(found) == [MISSED, BUFFERED]
    assert found.fires[0].reason == Reason(ReasonCode.CATCH_UP_WINDOW_PASSED, {"window_seconds": 3600, "unseen": "late"})


def test_a_fire_in_time_needs_no_window() -> None:
    assert outcomes(judged(PUNCTUAL - timedelta(microseconds=1), window=timedelta(seconds=1))) == [BUFFERED]
    assert outcomes(judged(PUNCTUAL, window=timedelta(seconds=1))) == [MISSED]


def test_starts_that_catch_up_are_staggered_over_all_jobs() -> None:
    stagger = Stagger(NOON)
    starts = []
    for _ in range(2):
        due = Due("one", "every 1m", None, (NOON - 3 * MINUTE, NOON - 2 * MINUTE), HOUR)
        wanted = spec(catch_up="all", catch_up_stagger=timedelta(seconds=7))
        found = judge(due, wanted, JobSnapshot(), now=NOON, stagger=stagger)
        starts += [fire.start_after for fire in found.fires]
    assert starts == [NOON + timedelta(seconds=7 * number) for number in range(4)]


def test_a_fire_whose_start_deadline_has_passed_is_missed_for_that_reason() -> None:
    found = judged(timedelta(seconds=11), timedelta(seconds=10), start_deadline=timedelta(seconds=10))
    assert outcomes(found) == [MISSED, BUFFERED]
    assert found.fires[0].reason == Reason(ReasonCode.START_DEADLINE, {"deadline_seconds": 10})
    late = judged(2 * MINUTE, start_deadline=MINUTE)
    assert outcomes(late) == [MISSED]
    assert late.fires[0].reason == Reason(ReasonCode.START_DEADLINE, {"deadline_seconds": 60, "unseen": "late"})


def test_jitter_delays_the_start_and_is_the_same_whoever_asks() -> None:
    found = judged(NOW, jitter=HOUR)
    start = found.fires[0].start_after
    assert start == NOON + start_delay("one", NOON, jitter=HOUR, salt="")
    assert start is not None
    assert NOON < start < NOON + HOUR
    assert found.fires[0].scheduled_for == NOON


def test_the_jitter_is_the_deployments_own() -> None:
    here, there = (judged(NOW, snapshot=JobSnapshot(deployment=name), jitter=HOUR).fires[0].start_after for name in ("here", "there"))
    assert here != there


def test_the_fires_of_a_broken_file_are_blocked_with_its_cause() -> None:
    due = Due("one", "every 1m", None, (NOON,))
    found = judge(due, None, JobSnapshot(broken="one.py:3 SyntaxError"), now=NOON, stagger=Stagger(NOON))
    broken = Reason(ReasonCode.JOB_BROKEN, {"error": "one.py:3 SyntaxError"})
    assert [(fire.outcome, fire.reason) for fire in found.fires] == [(FireOutcome.BLOCKED_CONFIG, broken)]


def test_few_fires_are_rows_and_many_are_one_gap() -> None:
    few = judged(*(number * MINUTE for number in range(ROWS_MAX, 0, -1)), catch_up="skip")
    assert (len(few.fires), few.gaps) == (ROWS_MAX, [])
    many = judged(*(number * MINUTE for number in range(ROWS_MAX + 1, 0, -1)), catch_up="skip")
    assert many.fires == []
    reason = Reason(ReasonCode.CATCH_UP_OFF, {"unseen": "late"})
    assert many.gaps == [Gap("one", NOON - 21 * MINUTE, NOON - MINUTE, 21, MISSED, reason, "every 1m", NOON)]


def test_what_is_too_old_to_be_looked_at_joins_the_gap_of_what_is_too_late() -> None:
    old = Span(NOON - timedelta(days=30), NOON - timedelta(days=1), 41_000)
    found = judged(2 * HOUR, MINUTE, old=old)
    assert [(gap.first, gap.last, gap.count) for gap in found.gaps] == [(old.first, NOON - 2 * HOUR, 41_001)]
    assert outcomes(found) == [BUFFERED]
    alone = judged(old=old)
    assert [(gap.first, gap.last, gap.count) for gap in alone.gaps] == [(old.first, old.last, 41_000)]


def test_rows_and_gaps_of_one_outcome_are_counted_together_and_what_waits_is_not() -> None:
    found = judged(10 * MINUTE, NOW, catch_up="skip", old=Span(NOON - 3 * HOUR, NOON - 2 * HOUR, 60))
    assert outcomes(found) == [MISSED, BUFFERED]
    assert counted(found) == {MISSED: 61}


def test_closing_nothing_records_nothing() -> None:
    found = Judgement()
    close(found, Due("one", "every 1m", None, ()), (), MISSED, NO_REASON, NOON)
    assert (found.fires, found.gaps) == ([], [])


def test_every_fire_that_goes_in_comes_out_once() -> None:
    ages = [number * 20 * timedelta(seconds=1) for number in range(300, -1, -1)]
    for overlap in ("skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"):
        for catch_up in ("skip", "last", "all"):
            for snapshot in (JobSnapshot(), BUSY, JobSnapshot(waiting=(NOON - 10 * HOUR,))):
                found = judged(*ages, snapshot=snapshot, overlap=overlap, catch_up=catch_up, start_deadline=20 * MINUTE)
                assert len({fire.scheduled_for for fire in found.fires}) == len(found.fires)
                assert len(found.fires) + sum(gap.count for gap in found.gaps) == len(ages)
