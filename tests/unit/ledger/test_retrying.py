"""When a further attempt may start."""

from datetime import UTC, datetime, timedelta

import pytest

from taskpilot import Retry, RunContext, cron, job
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.jobs.decorator import job_spec
from taskpilot.ledger.claims import Definitions
from taskpilot.ledger.finish_attempt import backoff, overtaken_by
from tests.spine import NOON, Spine

LOST = Outcome(RunStatus.LOST, Reason(ReasonCode.LEASE), retry=True)


@job(schedule=cron("0 * * * *"), retry=Retry(attempts=3))
def hourly(ctx: RunContext) -> None:
    """Do nothing."""


@pytest.mark.parametrize(("attempts", "longest"), [(1, 2), (2, 4), (3, 8), (6, 60), (1000, 60)])
def test_the_wait_is_drawn_from_a_time_that_doubles_up_to_a_minute(attempts: int, longest: float) -> None:
    assert backoff(Retry(), attempts, 0.0) == timedelta(0)
    assert backoff(Retry(), attempts, 0.5).total_seconds() == longest / 2


@pytest.mark.parametrize(("attempts", "shortest", "longest"), [(1, 30, 33), (2, 60, 66), (3, 100, 100), (1000, 100, 100)])
def test_a_delay_that_the_job_names_is_kept_doubles_and_has_an_end(attempts: int, shortest: float, longest: float) -> None:
    retry = Retry(attempts=9, delay="30s", max_delay="100s")
    assert backoff(retry, attempts, 0.0).total_seconds() == shortest
    assert backoff(retry, attempts, 1.0).total_seconds() == longest


def test_the_longest_delay_holds_for_a_drawn_wait_too() -> None:
    assert backoff(Retry(max_delay="1s"), 5, 0.5) == timedelta(seconds=0.5)


def test_no_attempt_starts_after_the_next_fire_of_its_job() -> None:
    spec = job_spec(hourly)
    following = NOON + timedelta(hours=1)
    assert overtaken_by(spec, NOON, following - timedelta(seconds=1)) is None
    assert overtaken_by(spec, NOON, following) == following
    assert overtaken_by(spec, None, datetime.max.replace(tzinfo=UTC)) is None


def lost_run(spine: Spine) -> str:
    claim = spine.claim(hourly, scheduled_for=NOON)
    spine.ledger.end(claim.grant, LOST, active_seconds=1, keep_lease=False)
    return claim.run.id


def test_a_lost_run_is_put_into_the_queue_of_a_server(spine: Spine) -> None:
    run_id = lost_run(spine)
    jobs = Definitions({"hourly": job_spec(hourly)})
    assert spine.deployment.queue.adopt(jobs) == [run_id]
    assert spine.deployment.queue.adopt(jobs) == []
    row = spine.row(run_id)
    assert row.status == RunStatus.QUEUED
    assert 0 <= row.start_after - row.created_at <= 2_000_000


def test_a_lost_run_whose_job_is_due_again_is_lost_for_good(spine: Spine) -> None:
    run_id = lost_run(spine)
    spine.later(3600)
    assert spine.deployment.queue.adopt(Definitions({"hourly": job_spec(hourly)})) == []
    run = spine.run_of(run_id)
    assert run.status is RunStatus.LOST
    assert run.reason == Reason(ReasonCode.OVERTAKEN, {"cause": "lease", "fire": "2026-11-23T13:00:00Z"})
    assert run.reason.cause is ReasonCode.LEASE
    assert spine.total("taskpilot_runs_total") == {'{"status":"lost"}': 1}
