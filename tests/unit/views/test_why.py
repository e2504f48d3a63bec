"""`why`: the one recorded reason that a fire did or did not happen, for each way in which it may not."""

from datetime import UTC, datetime

from taskpilot.domain.fires import ClockEvent, ClockEventKind
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.messages.moments import Explanation, Moment, explain
from taskpilot.services.jobs import pause_job, resume_job
from taskpilot.store import schedulers
from taskpilot.views.why import why, why_json
from tests import records
from tests.timeline import Timeline


def berlin(day: int, hour: int = 7) -> datetime:
    """An hour in Berlin in November 2026."""
    return datetime(2026, 11, day, hour - 1, tzinfo=UTC)


def answer_to(timeline: Timeline, job: str = "triage", *, at: str | None = None) -> tuple[Moment, Explanation]:
    """What is known, and its explanation."""
    moment = why(timeline.deployment, job, at=at)
    return moment, explain(moment)


def test_a_fire_that_started_names_its_run_and_how_it_ended(timeline: Timeline) -> None:
    timeline.follow()
    run_id = records.add_run(timeline.deployment.store, status=RunStatus.FAILED, reason=records.raised("no inbox"))
    timeline.record(berlin(24), FireOutcome.STARTED, run_id=run_id)
    timeline.later(days=1)
    moment, answer = answer_to(timeline)
    assert (moment.outcome, answer.sentence) == ("started", "triage started for Tue 2026-11-24 07:00 (Europe/Berlin); its run failed.")
    assert answer.facts["in utc"] == "2026-11-24T06:00:00Z"
    assert answer.facts["status"] == "failed: ValueError: no inbox"
    assert answer.facts["started"] == "2026-11-24T06:00:03Z, 3s after its time"
    assert answer.next == f"taskpilot runs show {run_id}"
    assert why_json(moment)["run"] == {"run_id": run_id, "status": "failed"}


def test_a_skipped_fire_names_the_run_in_its_way_and_how_that_one_ended(timeline: Timeline) -> None:
    timeline.follow()
    run_id = records.add_run(timeline.deployment.store)
    timeline.record(berlin(23), FireOutcome.SKIPPED_OVERLAP, Reason(ReasonCode.RUN_ACTIVE, {"run_id": run_id}))
    _moment, answer = answer_to(timeline)
    assert answer.sentence == f"triage did not start for Mon 2026-11-23 07:00 (Europe/Berlin): run {run_id} was active."
    assert answer.facts["other run"] == f"{run_id}, succeeded, ended 2026-11-23T12:00:02Z"
    assert answer.next == f"taskpilot runs show {run_id}"


def test_a_paused_fire_names_who_when_and_why(timeline: Timeline) -> None:
    timeline.follow()
    pause_job(timeline.deployment, "triage", by="anna", note="the tracker moves: the fire of 2026-13-99Z is to wait")
    timeline.later(days=1)
    timeline.met()
    moment, answer = answer_to(timeline)
    assert moment.outcome == "paused"
    assert "(Europe/Berlin): the job was paused since 2026-11-23T12:00:00Z by anna: the tracker moves" in answer.sentence
    assert answer.facts["pause"] == "still in force"
    assert answer.next == "taskpilot jobs resume triage"
    resume_job(timeline.deployment, "triage", by="bob", note="moved")
    _moment, answer = answer_to(timeline)
    assert answer.facts["pause"] == "ended 2026-11-24T12:00:00Z by bob: moved"
    assert answer.next == "taskpilot jobs show triage"


def test_a_missed_fire_names_the_time_in_which_no_scheduler_was_awake(timeline: Timeline) -> None:
    timeline.follow()
    asleep = timeline.clock()
    timeline.later(days=2)
    with timeline.deployment.store.write() as connection:
        schedulers.insert_clock_event(connection, ClockEvent(ClockEventKind.ASLEEP, asleep, timeline.clock()))
    timeline.met(asleep_since=asleep)
    moment, answer = answer_to(timeline, at="2026-11-24T07:00")
    assert moment.outcome == "missed"
    assert "no scheduler was running from 2026-11-23T12:00:00Z to 2026-11-25T12:00:00Z" in answer.sentence
    assert answer.facts["asleep"] == "no scheduler was running from 2026-11-23T12:00:00Z to 2026-11-25T12:00:00Z"
    assert answer.facts["time"] == "read in Europe/Berlin"


def test_a_fire_that_another_one_catches_up_for_leads_to_that_one(timeline: Timeline) -> None:
    timeline.define('schedule=every("1h"), catch_up="last", catch_up_window="12h"')
    timeline.follow()
    since = timeline.clock()
    timeline.later(hours=3, minutes=10)
    timeline.met(asleep_since=since)
    moment, answer = answer_to(timeline, at="2026-11-23T13:00Z")
    assert moment.outcome == "coalesced"
    assert "the fire of 2026-11-23T15:00:00Z catches up for it" in answer.sentence
    assert answer.facts["instead"] == "2026-11-23T15:00:00Z: buffered"
    assert answer.next == "taskpilot why triage --at 2026-11-23T15:00:00Z"


def test_one_of_a_million_missed_seconds_is_told_as_one_of_them(timeline: Timeline) -> None:
    timeline.define('schedule=every("1s"), catch_up="skip"')
    timeline.follow()
    since = timeline.clock()
    timeline.later(days=30)
    timeline.met(asleep_since=since)
    moment, answer = answer_to(timeline, at="2026-12-01T03:04:05Z")
    assert moment.outcome == "missed"
    assert answer.facts["one of"].startswith("2,59")
    assert " fires from 2026-11-23T12:00:01Z to 2026-12-23T" in answer.facts["one of"]
    assert answer.sentence.startswith("triage did not start for Tue 2026-12-01 03:04:05 (UTC): no scheduler was running from")
    assert why_json(moment)["gap"]["count"] > 2_500_000
    assert why(timeline.deployment, "triage", at="2026-12-01T03:04:05.5Z").outcome == "no_fire"


def test_a_broken_file_is_named_with_its_line(timeline: Timeline) -> None:
    timeline.follow()
    timeline.write("triage", "def triage(:\n")
    timeline.later(days=1)
    timeline.met()
    moment, answer = answer_to(timeline)
    assert moment.outcome == "blocked_config"
    assert "triage.py:1: SyntaxError" in answer.sentence
    assert answer.facts["now"].startswith("it still cannot be loaded: ")
    assert answer.next == "taskpilot jobs validate"


def test_a_fire_in_the_queue_says_what_it_waits_for(timeline: Timeline) -> None:
    timeline.follow()
    run_id = records.add_run(timeline.deployment.store, status=RunStatus.RUNNING, ended_at=None)
    timeline.record(berlin(23), FireOutcome.BUFFERED, Reason(ReasonCode.RUN_ACTIVE, {"run_id": run_id}))
    _moment, answer = answer_to(timeline)
    assert answer.sentence == f"triage waits to start for Mon 2026-11-23 07:00 (Europe/Berlin): run {run_id} is active."
    assert answer.facts["other run"] == f"{run_id}, running"
    assert answer.facts["scheduler"].startswith("not running")
    timeline.tick()
    assert answer_to(timeline)[1].facts["scheduler"] == "running"


def test_a_fire_that_nobody_accounted_for_says_whether_anybody_will(timeline: Timeline) -> None:
    timeline.follow()
    timeline.later(hours=18, seconds=5)
    moment, answer = answer_to(timeline)
    assert moment.outcome == "open"
    assert answer.sentence.startswith("Nothing has started triage for Tue 2026-11-24 07:00 (Europe/Berlin) yet: no scheduler is running")
    assert answer.facts["last scheduler"] == "never ran"
    assert answer.facts["can start"].startswith("until 2026-11-24T18:00:00Z")
    assert answer.next == "taskpilot run triage --scheduled-for 2026-11-24T06:00:00Z"
    timeline.later(hours=13)
    moment, answer = answer_to(timeline)
    assert answer.sentence.startswith("Nothing started triage for Tue 2026-11-24 07:00")
    assert answer.next == "taskpilot run triage"
    timeline.tick()
    assert "the scheduler checks within 15 s" in answer_to(timeline)[1].sentence


def test_a_fire_that_was_skipped_for_one_that_waits_names_that_one_and_the_active_run(timeline: Timeline) -> None:
    timeline.follow()
    run_id = records.add_run(timeline.deployment.store, status=RunStatus.RUNNING, ended_at=None)
    timeline.record(berlin(23, 8), FireOutcome.BUFFERED, Reason(ReasonCode.RUN_ACTIVE, {"run_id": run_id}))
    waits = {"fire": "2026-11-23T07:00:00Z", "run_id": run_id}
    timeline.record(berlin(23, 9), FireOutcome.SKIPPED_OVERLAP, Reason(ReasonCode.FIRE_WAITING, waits))
    moment, answer = answer_to(timeline, at="2026-11-23T08:00:00Z")
    found = why_json(moment)
    assert found["other_run"] == {"run_id": run_id, "status": "running"}
    assert found["other_fire"] == {"scheduled_for": "2026-11-23T07:00:00.000000Z", "outcome": "buffered"}
    assert (found["reason_code"], found["reason_facts"]) == ("fire_waiting", waits)
    assert found["reason"] == f"the fire of 2026-11-23T07:00:00Z was already waiting to start, behind run {run_id}"
    assert answer.facts["other run"] == f"{run_id}, running"
    assert answer.facts["other fire"] == "2026-11-23T07:00:00Z: buffered"
    assert answer.next == "taskpilot why triage --at 2026-11-23T07:00:00Z"


def test_a_note_that_looks_like_a_reason_names_nothing(timeline: Timeline) -> None:
    timeline.follow()
    run_id = records.add_run(timeline.deployment.store)
    timeline.record(berlin(23, 8), FireOutcome.STARTED, run_id=run_id)
    note = f"run {run_id} is active, the fire of 2026-11-23T07:00:00Z waits"
    timeline.record(berlin(23, 9), FireOutcome.PAUSED, Reason(ReasonCode.PAUSED, {"by": "anna", "note": note}))
    found = why_json(why(timeline.deployment, "triage", at="2026-11-23T08:00:00Z"))
    assert (found["other_run"], found["other_fire"]) == (None, None)


def test_the_sentence_of_an_older_version_is_shown_as_it_is(timeline: Timeline) -> None:
    timeline.follow()
    old = Reason(ReasonCode.UNKNOWN, {"text": "nothing started it: no scheduler was awake"})
    timeline.record(berlin(23), FireOutcome.MISSED, old)
    moment, answer = answer_to(timeline)
    assert answer.sentence.endswith("(Europe/Berlin): nothing started it: no scheduler was awake.")
    assert why_json(moment)["reason_code"] == "unknown"
