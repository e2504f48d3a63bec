"""Events become incidents: opened once, reminded after a cooldown, acknowledged, and closed by a success with one notice."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from taskpilot import RunContext, job
from taskpilot.domain.events import EventKind
from taskpilot.domain.ids import new_id
from taskpilot.domain.notices import IncidentState, NoticeEvent
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.messages.notices import digest_text, html_of, text_of, title_of
from taskpilot.notices.actions import acknowledge
from taskpilot.store import notice_tables as tables
from taskpilot.store.events import record_event
from taskpilot.store.notices import set_cursor, update_incident
from taskpilot.store.runs import update_run
from taskpilot.store.serving_queries import last_event
from tests.unit.notices.conftest import Desk

BOOM = Reason(ReasonCode.EXCEPTION, {"error_type": "ValueError", "error": "no inbox"})
CAUSES = {
    EventKind.RUN_FAILED: NoticeEvent.RUN_FAILED,
    EventKind.RUN_LOST: NoticeEvent.RUN_LOST,
    EventKind.RUN_TIMED_OUT: NoticeEvent.RUN_TIMED_OUT,
    EventKind.RUN_DENIED: NoticeEvent.RUN_DENIED,
    EventKind.RUN_OVER_BUDGET: NoticeEvent.RUN_OVER_BUDGET,
    EventKind.OUTCOME_FAILED: NoticeEvent.OUTCOME_FAILED,
    EventKind.FIRE_MISSED: NoticeEvent.FIRE_MISSED,
    EventKind.FIRE_BLOCKED: NoticeEvent.FIRE_BLOCKED,
}


@pytest.mark.parametrize(("kind", "cause"), CAUSES.items())
def test_what_went_wrong_is_told_once_and_its_end_once(desk: Desk, kind: EventKind, cause: NoticeEvent) -> None:
    for _ in range(3):
        desk.happen(kind, run_id=new_id())
        desk.look()
    assert desk.told == [cause]
    (incident,) = desk.incidents()
    assert (incident.cause, incident.state, incident.events) == (cause, IncidentState.OPEN, 3)
    for _ in range(2):
        desk.happen(EventKind.RUN_SUCCEEDED, run_id=new_id())
        desk.look()
    assert desk.told == [cause, "recovered"]
    assert desk.incidents()[0].state is IncidentState.CLOSED
    assert {one.incident_id for one in desk.notices()} == {incident.id}
    desk.happen(kind)
    desk.look()
    assert desk.told == [cause, "recovered", cause]
    assert desk.incidents()[1].id != incident.id


def test_each_cause_of_a_job_is_an_incident_of_its_own_and_a_success_closes_them_all(desk: Desk) -> None:
    for kind in CAUSES:
        desk.happen(kind)
    desk.happen(EventKind.RUN_FAILED, "digest")
    desk.happen(EventKind.RUN_SUCCEEDED)
    desk.look()
    assert sorted(desk.told[: len(CAUSES) + 1]) == sorted([*CAUSES.values(), "run_failed"])
    assert desk.told[len(CAUSES) + 1 :] == ["recovered"] * len(CAUSES)
    assert [one.job for one in desk.incidents() if one.closed_at is None] == ["digest"]


def test_a_notice_says_what_happened_to_which_run_and_what_to_do(desk: Desk) -> None:
    run_id = new_id()
    desk.happen(EventKind.RUN_FAILED, run_id=run_id, reason=BOOM)
    desk.look()
    facts = desk.facts()
    (incident,) = desk.incidents()
    root = str(desk.deployment.settings.root)
    wanted = {
        "event": "run_failed",
        "incident": incident.id,
        "job": "triage",
        "run_id": run_id,
        "fire": None,
        "reason": "ValueError: no inbox",
        "reason_code": "exception",
        "reason_facts": {"error_type": "ValueError", "error": "no inbox"},
        "command": f"taskpilot --root {root} runs show {run_id[-8:]}",
        "link": None,
        "deployment": desk.store.deployment,
        "at": "2026-11-23T12:00:00Z",
    }
    assert {name: facts[name] for name in wanted} == wanted
    assert facts["version"]
    assert facts["wait"] == "It is not scheduled: it does not run again by itself."


def test_an_open_incident_is_reminded_after_each_cooldown_until_somebody_acknowledges_it(desk: Desk) -> None:
    desk.happen(EventKind.RUN_FAILED)
    for hour in range(13):
        desk.look()
        # A reminder is written only when the one before has arrived.
        _deliver(desk)
        assert len(desk.told) == 1 + hour // 4
        desk.later(3600)
    assert [one.facts["reminder"] for one in desk.notices()] == [0, 1, 2, 3]
    with desk.store.write() as connection:
        update_incident(connection, desk.incidents()[0].id, acknowledged_at=desk.clock(), acknowledged_by="anna")
    desk.later(24 * 3600)
    desk.look()
    assert len(desk.told) == 4
    desk.happen(EventKind.RUN_FAILED)
    desk.happen(EventKind.RUN_SUCCEEDED)
    desk.look()
    assert desk.told[4:] == ["recovered"]


def test_no_reminder_is_written_while_the_notice_before_has_not_arrived(desk: Desk) -> None:
    desk.happen(EventKind.RUN_FAILED)
    for _ in range(5):
        desk.look()
        desk.later(5 * 3600)
    assert desk.told == ["run_failed"]


def _deliver(desk: Desk) -> None:
    with desk.store.write() as connection:
        connection.execute(update(tables.notices).values(due_at=None, result="delivered"))


@pytest.mark.parametrize("settings", ['[notify]\ndefault = ["ops"]\nafter = 3\n'])
def test_with_after_the_failures_in_a_row_are_counted_whatever_their_cause(desk: Desk) -> None:
    desk.happen(EventKind.RUN_FAILED)
    desk.happen(EventKind.RUN_TIMED_OUT)
    desk.happen(EventKind.RUN_SUCCEEDED)
    desk.happen(EventKind.RUN_FAILED)
    desk.happen(EventKind.RUN_TIMED_OUT)
    desk.look()
    assert desk.told == []
    assert [one.state for one in desk.incidents()] == [IncidentState.CLOSED, IncidentState.CLOSED, *[IncidentState.PENDING] * 2]
    desk.happen(EventKind.RUN_TIMED_OUT)
    desk.look()
    assert desk.told == ["run_timed_out"]
    desk.happen(EventKind.RUN_SUCCEEDED)
    desk.look()
    assert desk.told == ["run_timed_out", "recovered"]
    desk.happen(EventKind.FIRE_MISSED)
    desk.look()
    assert desk.told[2:] == ["fire_missed"]


@pytest.mark.parametrize("settings", ['[notify]\ndefault = ["ops"]\nevents = ["run_failed"]\n'])
def test_events_that_are_switched_off_are_not_told(desk: Desk) -> None:
    for kind in (EventKind.RUN_FAILED, EventKind.RUN_LOST, EventKind.RUN_SUCCEEDED):
        desk.happen(kind)
    desk.look()
    assert desk.told == ["run_failed"]
    assert len(desk.incidents()) == 2


def test_without_a_channel_incidents_are_kept_and_nothing_is_sent(tmp_path: object) -> None:
    desk = Desk(tmp_path)  # type: ignore[arg-type]
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    assert (desk.told, [one.state for one in desk.incidents()]) == ([], [IncidentState.OPEN])
    desk.close()


def test_a_pause_by_failures_is_told_until_it_is_ended_and_one_by_a_person_is_not(desk: Desk) -> None:
    desk.happen(EventKind.JOB_PAUSED, "digest", reason=Reason(ReasonCode.PAUSED, {"by": "anna"}))
    desk.happen(EventKind.JOB_PAUSED, reason=Reason(ReasonCode.REPEATED_FAILURES, {"runs": 3}))
    desk.happen(EventKind.RUN_SUCCEEDED)
    desk.look()
    assert desk.told == ["job_paused"]
    assert desk.facts()["command"].endswith("jobs resume triage")
    desk.happen(EventKind.JOB_RESUMED)
    desk.look()
    assert desk.told == ["job_paused", "recovered"]


def test_many_missed_fires_are_one_incident_with_their_number(desk: Desk) -> None:
    desk.happen(EventKind.FIRE_MISSED, number=700, fire=desk.clock())
    desk.look()
    assert desk.told == ["fire_missed"]
    assert (desk.facts()["count"], desk.facts()["fire"]) == (700, "2026-11-23T12:00:00Z")


@pytest.mark.parametrize("settings", ['[notify]\ndefault = ["ops", "night"]\n'])
def test_each_channel_gets_its_own_notice_with_its_own_key(desk: Desk) -> None:
    desk.happen(EventKind.RUN_FAILED)
    desk.look()
    assert desk.told == ["run_failed", "run_failed night"]
    first, second = desk.notices()
    assert first.id != second.id
    assert first.facts == second.facts


def test_the_events_of_many_processes_are_read_once(desk: Desk) -> None:
    with desk.store.write() as connection:
        for _ in range(2_500):
            record_event(connection, EventKind.RUN_FAILED, "triage", at=desk.clock())
    desk.look()
    desk.look()
    assert desk.told == ["run_failed"]
    assert desk.incidents()[0].events == 2_500


def test_an_error_in_the_middle_changes_nothing_and_the_next_look_does_it_all(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.happen(EventKind.RUN_FAILED)
    desk.happen(EventKind.RUN_LOST)
    with monkeypatch.context() as patched:
        calls: list[int] = []

        def breaks(*_args: object, **_named: object) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise RuntimeError("killed here")

        patched.setattr("taskpilot.notices.incidents.store_notices.insert_notice", breaks)
        with pytest.raises(RuntimeError):
            desk.look()
    assert (desk.told, desk.incidents()) == ([], [])
    desk.look()
    assert desk.told == ["run_failed", "run_lost"]


def test_a_clock_that_was_set_back_holds_up_no_notice(desk: Desk) -> None:
    desk.happen(EventKind.RUN_FAILED)
    desk.clock.advance(timedelta(hours=-6))
    desk.look()
    (notice,) = desk.notices()
    assert notice.due_at == desk.clock()


@job()
def asks(ctx: RunContext) -> None:
    """Waits for a person, as the tests say."""


def question(desk: Desk, expires_at: str = "2026-11-24T12:00:00Z") -> tuple[str, Reason]:
    """A waiting run that asks until an instant."""
    reason = Reason(ReasonCode.APPROVAL, {"tool": "send", "decision_id": new_id(), "expires_at": expires_at})
    grant = desk.claim(asks).grant
    desk.ledger.end(grant, Outcome(RunStatus.WAITING, reason), active_seconds=1, keep_lease=False)
    desk.happen(EventKind.APPROVAL_ASKED, "asks", run_id=grant.run_id, reason=reason)
    return grant.run_id, reason


def end(desk: Desk, run_id: str, kind: EventKind, status: RunStatus, reason: Reason = NO_REASON) -> None:
    with desk.store.write() as connection:
        update_run(connection, run_id, status=status)
    desk.happen(kind, "asks", run_id=run_id, reason=reason)


def test_a_question_is_told_reminded_and_over_when_it_is_answered(desk: Desk) -> None:
    run_id, _ = question(desk)
    desk.look()
    _deliver(desk)
    assert (desk.told, desk.facts()["run_id"]) == (["approval_asked"], run_id)
    assert desk.facts()["wait"].startswith("Without an answer it is denied at 2026-11-2")
    desk.later(4 * 3600)
    desk.look()
    assert (desk.told[1:], desk.facts()["reminder"]) == (["approval_asked"], 1)
    # An answer is no event: the run goes on.
    with desk.store.write() as connection:
        update_run(connection, run_id, status=RunStatus.QUEUED)
    desk.look()
    assert desk.told[2:] == ["recovered"]
    assert "asks needs no answer any more" in text_of(desk.facts())


def test_a_question_that_nobody_answers_is_warned_of_told_as_expired_and_over_with_a_success(desk: Desk) -> None:
    run_id, reason = question(desk)
    desk.look()
    acknowledge(desk.deployment, desk.incidents()[0].id, by="anna")
    desk.later(18 * 3600)
    desk.happen(EventKind.APPROVAL_EXPIRING, "asks", run_id=run_id, reason=reason)
    desk.look()
    assert desk.told == ["approval_asked", "approval_expiring"], "who acknowledged it has not answered"
    desk.later(6 * 3600)
    expired = Reason(ReasonCode.APPROVAL_EXPIRED, {"tool": "send", "expired_at": "2026-11-24T12:00:00Z"})
    desk.happen(EventKind.APPROVAL_EXPIRED, "asks", run_id=run_id, reason=expired)
    end(desk, run_id, EventKind.RUN_DENIED, RunStatus.DENIED, expired)
    desk.look()
    assert desk.told[2:] == ["approval_expired"], "neither the run's end nor the question's end is told again"
    assert "nobody answered" in desk.facts()["reason"]
    assert [one.cause for one in desk.incidents() if one.closed_at is None] == [NoticeEvent.APPROVAL_EXPIRED]
    # The next night the same: one incident, until a run succeeds.
    again, _ = question(desk)
    desk.happen(EventKind.APPROVAL_EXPIRED, "asks", run_id=again, reason=expired)
    end(desk, again, EventKind.RUN_DENIED, RunStatus.DENIED, expired)
    desk.look()
    assert [one.events for one in desk.incidents() if one.cause is NoticeEvent.APPROVAL_EXPIRED] == [2]
    desk.succeed(desk.claim(asks))
    desk.look()
    assert desk.told[-1] == "recovered"
    assert all(one.closed_at for one in desk.incidents())


def test_an_expiry_of_one_of_two_questions_leaves_the_other_open(desk: Desk) -> None:
    run_id, reason = question(desk)
    desk.happen(EventKind.APPROVAL_EXPIRED, "asks", run_id=run_id, reason=reason)
    desk.look()
    assert sorted((one.cause, one.state) for one in desk.incidents()) == [
        (NoticeEvent.APPROVAL_ASKED, IncidentState.OPEN),
        (NoticeEvent.APPROVAL_EXPIRED, IncidentState.OPEN),
    ]


def test_a_question_of_before_this_version_is_told_when_it_is_about_to_expire(desk: Desk) -> None:
    run_id, reason = question(desk)
    with desk.store.write() as connection:
        set_cursor(connection, last_event(connection))
    desk.happen(EventKind.APPROVAL_EXPIRING, "asks", run_id=run_id, reason=reason)
    desk.look()
    assert desk.told == ["approval_expiring"]


def test_a_notice_holds_no_secret_and_no_control_character(tmp_path: Path) -> None:
    text = '[notify]\ndefault = ["ops"]\n[notify.channels.ops]\nurl = "http://127.0.0.1:1/token-1234567890"\n'
    desk = Desk(tmp_path, settings=text)
    hostile = "token-1234567890 sk-abcdefghijklmnopqrstuv \x1b[31m\u202e\r\nSubject: x"
    desk.happen(EventKind.RUN_FAILED, run_id=new_id(), reason=Reason(ReasonCode.EXCEPTION, {"error_type": "E", "error": hostile}))
    desk.happen(EventKind.FIRE_BLOCKED, reason=Reason(ReasonCode.CONFIGURATION, {"error": hostile}))
    desk.look()
    for notice in desk.notices():
        stored = json.dumps(notice.facts)
        for text in (stored, text_of(notice.facts), html_of(notice.facts), digest_text([notice.facts] * 2)):
            assert "token-1234567890" not in text
            assert "sk-abcdef" not in text
        for text in (text_of(notice.facts), html_of(notice.facts), title_of(notice.facts), digest_text([notice.facts] * 2)):
            assert all(character == "\n" or character.isprintable() for character in text)
    desk.close()
