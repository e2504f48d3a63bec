"""The events: one row an occurrence, written with the change that it tells of."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.domain.times import to_micros
from taskpilot.services.jobs import resume_job
from taskpilot.store.events import prune_events
from taskpilot.store.records import reason_of
from taskpilot.store.tables import events
from tests.spine import Spine
from tests.unit.ledger.test_fires import HOUR, NOON, hourly, minutely

NO = Reason(ReasonCode.DENIED, {"tool": "send", "policy": "not on a Monday"})


def told(spine: Spine) -> list[Any]:
    with spine.store.read() as connection:
        return list(connection.execute(select(events).order_by(events.c.id)))


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome(RunStatus.SUCCEEDED), "run_succeeded"),
        (Outcome(RunStatus.FAILED, Reason(ReasonCode.EXCEPTION)), "run_failed"),
        (Outcome(RunStatus.FAILED, Reason(ReasonCode.OUTCOME_FAILED)), "outcome_failed"),
        (Outcome(RunStatus.LOST, Reason(ReasonCode.LEASE)), "run_lost"),
        (Outcome(RunStatus.TIMED_OUT, Reason(ReasonCode.DEADLINE)), "run_timed_out"),
        (Outcome(RunStatus.DENIED, NO), "run_denied"),
        (Outcome(RunStatus.BUDGET_EXCEEDED, Reason(ReasonCode.BUDGET)), "run_over_budget"),
        (Outcome(RunStatus.CANCELLED, Reason(ReasonCode.CANCELLED_BY_PERSON)), "run_cancelled"),
    ],
)
def test_the_end_of_a_run_is_an_event_with_its_reason(spine: Spine, outcome: Outcome, kind: str) -> None:
    claim = spine.claim(hourly)
    assert told(spine) == []
    spine.ledger.end(claim.grant, outcome, active_seconds=1, keep_lease=False)
    (event,) = told(spine)
    assert (event.kind, event.job, event.run_id, event.at) == (kind, "hourly", claim.run.id, to_micros(spine.clock()))
    assert reason_of(event) == outcome.reason


def test_an_attempt_that_will_be_followed_is_no_event(spine: Spine) -> None:
    claim = spine.claim(hourly)
    spine.ledger.end(claim.grant, Outcome(RunStatus.WAITING, Reason(ReasonCode.APPROVAL)), active_seconds=1, keep_lease=False)
    assert told(spine) == []


def test_a_fire_that_is_missed_or_blocked_is_an_event_and_one_that_starts_is_none(spine: Spine) -> None:
    spine.due(minutely)
    spine.later(60)
    broken = spine.defined(broken={"minutely": "minutely.py:3 SyntaxError"})
    spine.fires.claim_due(broken)
    spine.claim(minutely, scheduled_for=NOON + 5 * HOUR)
    (event,) = told(spine)
    assert (event.kind, event.job, event.number, event.fire_key) == ("fire_blocked", "minutely", 1, "")
    assert event.scheduled_for == to_micros(NOON + timedelta(minutes=1))
    assert reason_of(event) == Reason(ReasonCode.JOB_BROKEN, {"error": "minutely.py:3 SyntaxError"})


def test_a_gap_is_one_event_with_its_count(spine: Spine) -> None:
    spine.due(hourly)
    spine.later(30 * 86_400 + 600)
    spine.due(hourly)
    (event,) = told(spine)
    assert (event.kind, event.number) == ("fire_missed", 719)


def test_a_pause_and_its_end_are_events_about_the_pause(spine: Spine) -> None:
    spine.pause("hourly")
    resume_job(spine.deployment, "hourly", by="bert", note="it moved")
    paused, resumed = told(spine)
    assert (paused.kind, resumed.kind, paused.subject) == ("job_paused", "job_resumed", resumed.subject)
    assert reason_of(paused).facts["by"] == "anna"
    assert reason_of(resumed) == Reason(ReasonCode.RESUMED, {"by": "bert", "note": "it moved"})


def test_old_events_are_pruned_and_new_ones_stay(spine: Spine) -> None:
    spine.succeed(spine.claim(hourly))
    spine.later(100)
    spine.succeed(spine.claim(hourly))
    with spine.store.write() as connection:
        assert prune_events(connection, spine.clock(), limit=10) == 1
        assert prune_events(connection, spine.clock(), limit=10) == 0
    assert [event.id for event in told(spine)] == [2]
