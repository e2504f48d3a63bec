"""The queue: what may start now, in which order, in how many places, and what is not to start any more."""

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from taskpilot import Retry, RunContext, every, job
from taskpilot.domain.fires import LAUNCH, Gap, StartOrder
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Outcome, Run, RunStatus
from taskpilot.domain.times import to_micros
from taskpilot.ledger.claims import Claim, Definitions
from taskpilot.store.fires import insert_gap
from taskpilot.store.schedules import begin_pause
from tests.spine import NOON, Spine

MINUTE = timedelta(minutes=1)
FIRES = "taskpilot_fires_total"


def minutely(name: str, **options: Any) -> Callable[..., None]:
    @job(name=name, schedule=every("1m"), **options)
    def function(ctx: RunContext) -> None:
        """Do nothing."""

    return function


A, B, C = minutely("a"), minutely("b"), minutely("c", retry=Retry(attempts=5))
ALL = minutely("a", overlap="allow_all")
BUFFERED = minutely("a", overlap="buffer_all")
PATIENT = minutely("a", overlap="buffer_all", start_deadline="2m")


def folder(*jobs: Callable[..., Any]) -> Definitions:
    from taskpilot.jobs.decorator import job_spec

    return Definitions({spec.name: spec for spec in map(job_spec, jobs)})


def queued(spine: Spine, *jobs: Callable[..., Any], minutes: int = 1) -> Definitions:
    """The jobs' next fires stand in the queue, claimed each at its minute."""
    found = spine.defined(*jobs)
    for _ in range(minutes):
        spine.later(60)
        spine.fires.claim_due(found)
    return found


def take(spine: Spine, jobs: Definitions, *, places: int = 4) -> list[StartOrder]:
    return spine.queue(places=places).take(jobs, scheduler="one")


def enqueued(spine: Spine, function: Callable[..., Any]) -> Run:
    return spine.ledger.enqueue(spine.plan(function))


def lost(spine: Spine, function: Callable[..., Any]) -> str:
    claim = spine.claim(function)
    outcome = Outcome(RunStatus.LOST, Reason(ReasonCode.SIGNAL), retry=True)
    assert spine.ledger.end(claim.grant, outcome, active_seconds=1, keep_lease=False) is RunStatus.QUEUED
    return claim.run.id


def test_an_empty_queue_gives_nothing_and_writes_nothing(spine: Spine) -> None:
    assert take(spine, spine.defined(A)) == []
    assert spine.queue().length() == 0


def test_a_fire_is_taken_out_once(spine: Spine) -> None:
    jobs = queued(spine, A)
    assert spine.queue().length() == 1
    assert take(spine, jobs) == [StartOrder("a", scheduled_for=NOON + MINUTE)]
    assert take(spine, jobs) == []


def test_no_more_is_started_at_once_than_there_are_places(spine: Spine) -> None:
    jobs = queued(spine, A, B, C)
    assert [order.job for order in take(spine, jobs, places=2)] == ["a", "b"]
    assert take(spine, jobs, places=2) == [], "two starts are under way"
    spine.claim(A, scheduled_for=NOON + MINUTE)
    assert take(spine, jobs, places=2) == [], "one runs and one is under way"
    assert [order.job for order in take(spine, jobs, places=3)] == ["c"]


def test_a_run_by_hand_takes_a_place_too(spine: Spine) -> None:
    jobs = queued(spine, B, C)
    spine.claim(A)
    assert [order.job for order in take(spine, jobs, places=2)] == ["b"]


def test_what_may_start_first_is_started_first_and_not_before(spine: Spine) -> None:
    late = minutely("a", jitter="25s")
    jobs = queued(spine, late, B)
    fire = spine.fire("a", NOON + MINUTE)
    assert fire is not None
    assert fire.start_after is not None
    assert [order.job for order in take(spine, jobs)] == ["b"]
    spine.later((fire.start_after - spine.clock()).total_seconds() - 0.000001)
    assert take(spine, jobs) == []
    spine.later(0.000001)
    assert [order.job for order in take(spine, jobs)] == ["a"]


def test_runs_that_were_asked_for_come_before_fires(spine: Spine) -> None:
    jobs = queued(spine, A)
    run = enqueued(spine, B)
    assert take(spine, jobs) == [StartOrder("b", run_id=run.id), StartOrder("a", scheduled_for=NOON + MINUTE)]


def test_of_one_job_one_fire_is_started_at_a_time(spine: Spine) -> None:
    jobs = queued(spine, BUFFERED, minutes=3)
    assert [order.scheduled_for for order in take(spine, jobs)] == [NOON + MINUTE]
    claim = spine.claim(BUFFERED, scheduled_for=NOON + MINUTE)
    assert take(spine, jobs) == []
    spine.succeed(claim)
    assert [order.scheduled_for for order in take(spine, jobs)] == [NOON + 2 * MINUTE]


def test_of_a_job_that_allows_it_all_are(spine: Spine) -> None:
    jobs = queued(spine, ALL, minutes=3)
    assert [order.scheduled_for for order in take(spine, jobs)] == [NOON + number * MINUTE for number in (1, 2, 3)]


def test_a_queued_run_waits_for_the_run_of_its_job_that_came_between(spine: Spine) -> None:
    """One that waited for a person holds no slot: another one may have started meanwhile."""
    waits = spine.claim(A)
    spine.ledger.end(waits.grant, Outcome(RunStatus.WAITING, Reason(ReasonCode.APPROVAL)), active_seconds=1, keep_lease=False)
    between = spine.claim(A)
    assert spine.ledger.requeue_waiting(waits.run.id)
    jobs = folder(A)
    assert take(spine, jobs) == []
    spine.succeed(between)
    assert take(spine, jobs) == [StartOrder("a", run_id=waits.run.id)]


def test_two_queued_runs_of_one_job_start_one_after_the_other(spine: Spine) -> None:
    first, second = enqueued(spine, A), enqueued(spine, A)
    jobs = folder(A)
    assert [order.run_id for order in take(spine, jobs)] == [first.id]
    claim = spine.ledger.start_queued(spine.plan(A, run_id=first.id))
    assert isinstance(claim, Claim)
    assert take(spine, jobs) == []
    spine.succeed(claim)
    assert [order.run_id for order in take(spine, jobs)] == [second.id]


def test_two_queued_runs_of_a_job_that_allows_it_start_together(spine: Spine) -> None:
    runs = [enqueued(spine, ALL).id for _ in range(2)]
    assert [order.run_id for order in take(spine, folder(ALL))] == runs


def test_a_start_that_came_to_nothing_is_in_the_queue_again(spine: Spine) -> None:
    jobs = queued(spine, A)
    run = enqueued(spine, B)
    orders = take(spine, jobs)
    spine.clock.advance(LAUNCH - timedelta(microseconds=1))
    assert take(spine, jobs) == []
    spine.clock.advance(timedelta(microseconds=1))
    assert take(spine, jobs) == orders
    assert orders[0].run_id == run.id


def test_what_is_put_back_is_there_at_once(spine: Spine) -> None:
    jobs = queued(spine, A)
    enqueued(spine, B)
    orders = take(spine, jobs)
    for order in orders:
        spine.queue().requeue(order)
    assert take(spine, jobs) == orders


def test_a_fire_that_was_started_is_not_put_back(spine: Spine) -> None:
    jobs = queued(spine, A)
    order = take(spine, jobs)[0]
    spine.succeed(spine.claim(A, scheduled_for=NOON + MINUTE))
    spine.queue().requeue(order)
    assert take(spine, jobs) == []


def test_a_fire_whose_start_deadline_passes_in_the_queue_is_missed(spine: Spine) -> None:
    jobs = queued(spine, PATIENT)
    spine.claim(B)
    assert take(spine, jobs, places=1) == [], "there is no place"
    spine.later(120)
    spine.ledger.claim(spine.plan(B))
    assert spine.outcomes("a") == {NOON + MINUTE: "buffered"}
    spine.later(1)
    assert take(spine, jobs, places=1) == []
    fire = spine.fire("a", NOON + MINUTE)
    assert fire is not None
    assert (fire.outcome, fire.reason) == (FireOutcome.MISSED, Reason(ReasonCode.START_DEADLINE, {"deadline_seconds": 120}))
    assert spine.total(FIRES) == {'{"outcome":"missed"}': 1}


def test_a_job_that_is_paused_while_its_fire_waits_does_not_start(spine: Spine) -> None:
    jobs = queued(spine, A)
    with spine.store.write() as connection:
        begin_pause(connection, "a", by="anna", note="", now=spine.clock())
    assert take(spine, jobs) == []
    assert spine.outcomes("a") == {NOON + MINUTE: "paused"}


@pytest.mark.parametrize(
    ("jobs", "outcome", "reason"),
    [
        (Definitions({}, {"a": "a.py:1 SyntaxError"}), "blocked_config", Reason(ReasonCode.JOB_BROKEN, {"error": "a.py:1 SyntaxError"})),
        (Definitions({}), "missed", Reason(ReasonCode.JOB_REMOVED)),
    ],
)
def test_a_fire_whose_job_is_broken_or_gone_does_not_start(spine: Spine, jobs: Definitions, outcome: str, reason: Reason) -> None:
    queued(spine, A)
    assert take(spine, jobs) == []
    fire = spine.fire("a", NOON + MINUTE)
    assert fire is not None
    assert (fire.outcome, fire.reason) == (outcome, reason)


def test_an_order_is_closed_once_and_only_while_nobody_started_it(spine: Spine) -> None:
    jobs = queued(spine, A, B)
    first, second = take(spine, jobs)
    queue = spine.queue()
    assert queue.close(first, FireOutcome.BLOCKED_CONFIG, Reason(ReasonCode.CONFIGURATION)) is True
    assert queue.close(first, FireOutcome.BLOCKED_CONFIG, Reason(ReasonCode.CONFIGURATION)) is False
    spine.claim(B, scheduled_for=second.scheduled_for)
    assert queue.close(second, FireOutcome.BLOCKED_CONFIG, Reason(ReasonCode.CONFIGURATION)) is False
    assert spine.total(FIRES) == {'{"outcome":"blocked_config"}': 1, '{"outcome":"started"}': 1}


def test_a_queued_run_that_cannot_start_fails_with_the_cause(spine: Spine) -> None:
    run = enqueued(spine, A)
    order = take(spine, folder(A))[0]
    no_key = Reason(ReasonCode.CONFIGURATION, {"error": "the model has no key"})
    assert spine.queue().close(order, FireOutcome.BLOCKED_CONFIG, no_key) is True
    ended = spine.run_of(run.id)
    assert (ended.status, ended.reason) == (RunStatus.FAILED, no_key)
    assert spine.queue().close(order, FireOutcome.BLOCKED_CONFIG, no_key) is False


class Longest(Random):
    """Draws the largest number."""

    def random(self) -> float:
        return 1.0


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 2), (2, 4), (3, 8)])
def test_a_lost_run_is_continued_after_a_backoff_that_doubles(spine: Spine, attempts: int, seconds: float) -> None:
    run_id = lost(spine, C)
    for _ in range(attempts - 1):
        claim = spine.ledger.start_queued(spine.plan(C, run_id=run_id))
        assert claim is not None
        spine.ledger.end(claim.grant, Outcome(RunStatus.LOST, Reason(ReasonCode.SIGNAL), retry=True), active_seconds=1, keep_lease=False)
    queue = spine.queue(random=Longest())
    assert queue.adopt(folder(C)) == [run_id]
    assert queue.adopt(folder(C)) == [], "it stands in the queue"
    due = spine.clock() + timedelta(seconds=seconds)
    assert spine.row(run_id).start_after == to_micros(due)
    spine.later(seconds - 0.001)
    assert take(spine, folder(C)) == []
    spine.later(0.001)
    assert take(spine, folder(C)) == [StartOrder("c", run_id=run_id)]


def test_the_backoff_is_drawn_from_nothing_to_its_longest(spine: Spine) -> None:
    run_id = lost(spine, C)
    spine.queue(random=Random(7)).adopt(folder(C))
    delay = spine.row(run_id).start_after - to_micros(spine.clock())
    assert delay == round(Random(7).random() * 2_000_000)


def test_a_run_without_an_attempt_left_is_not_continued(spine: Spine) -> None:
    claim = spine.claim(A)
    spine.later(31)
    spine.ledger.reap()
    assert spine.run_of(claim.run.id).status is RunStatus.LOST
    assert spine.queue().adopt(folder(A)) == []


def test_a_fire_meets_the_lost_run_that_stands_in_the_queue(spine: Spine) -> None:
    spine.awake()
    run_id = lost(spine, C)
    spine.queue(random=Longest()).adopt(folder(C))
    spine.defined(C)
    spine.later(3)
    spine.awake()
    found = spine.refused(C)
    assert found.reason.facts["run_id"] == run_id


def test_a_fire_in_the_queue_starts_although_a_gap_surrounds_it(spine: Spine) -> None:
    # The clock was set back after the fire was put into the queue, and then forward again beyond it.
    jobs = queued(spine, ALL)
    gap = Gap("a", NOON, NOON + 5 * MINUTE, 6, FireOutcome.MISSED, NO_REASON, "every 1m", NOON)
    with spine.store.write() as connection:
        insert_gap(connection, gap)
    [order] = take(spine, jobs)
    assert spine.claim(ALL, scheduled_for=order.scheduled_for).run.scheduled_for == NOON + MINUTE
    assert spine.queue().length() == 0
