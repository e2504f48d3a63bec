"""`why` of moments without an outcome: to come, between fires, before the job was known, on nights on which the clock jumps."""

import pytest

from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.messages.moments import explain
from taskpilot.views.why import why, why_json
from tests.timeline import MONDAY, Timeline


def test_what_is_to_come_says_in_how_long(timeline: Timeline) -> None:
    timeline.later(hours=15)
    answer = why(timeline.deployment, "triage", at="2026-11-24T07:00")
    assert (answer.outcome, explain(answer).sentence) == ("to_come", "triage is due at Tue 2026-11-24 07:00 (Europe/Berlin), in 3h.")
    assert not timeline.deployment.settings.state_dir.exists()


def test_a_moment_that_was_no_fire_is_answered_by_those_around_it(timeline: Timeline) -> None:
    timeline.follow()
    timeline.later(days=6)
    answer = why(timeline.deployment, "triage", at="2026-11-28T07:00")
    assert (answer.outcome, explain(answer).sentence) == ("no_fire", "triage was not due at Sat 2026-11-28 07:00 (Europe/Berlin).")
    assert explain(answer).facts["before"] == "2026-11-27T06:00:00Z = Fri 2026-11-27 07:00 (Europe/Berlin)"
    assert explain(answer).facts["after"] == "2026-11-30T06:00:00Z = Mon 2026-11-30 07:00 (Europe/Berlin)"
    assert why_json(answer)["fire"] is None
    assert explain(answer).next == "taskpilot why triage --at 2026-11-27T06:00:00Z"


def test_a_moment_is_judged_by_the_schedule_of_that_time(timeline: Timeline) -> None:
    timeline.follow()
    timeline.later(days=2)
    timeline.define('schedule=cron("0 9 * * *")')
    timeline.met()
    timeline.later(days=2)
    timeline.met(asleep_since=MONDAY)
    assert why(timeline.deployment, "triage", at="2026-11-24T06:00Z").outcome == "missed"
    early = why(timeline.deployment, "triage", at="2026-11-24T09:00Z")
    assert early.outcome == "no_fire"
    assert explain(early).facts["schedule"] == "cron 0 7 * * mon-fri (Europe/Berlin)"
    assert explain(early).facts["after"].startswith("2026-11-25T06:00:00Z")
    assert explain(why(timeline.deployment, "triage", at="2026-11-25T10:00Z")).facts["after"].startswith("2026-11-26T09:00:00Z")
    assert why(timeline.deployment, "triage", at="2026-11-26T09:00Z").outcome in {"missed", "coalesced"}
    assert why(timeline.deployment, "triage", at="2026-11-26T06:00Z").outcome == "no_fire"


def test_before_a_job_was_seen_it_had_no_schedule(timeline: Timeline) -> None:
    timeline.follow()
    answer = why(timeline.deployment, "triage", at="2026-11-20T07:00")
    assert answer.outcome == "no_schedule"
    assert explain(answer).sentence.endswith("the job was first seen at 2026-11-23T12:00:00Z.")
    assert explain(why(timeline.deployment, "triage")).sentence == (
        "triage has not been due yet since 2026-11-23T12:00:00Z, when it was first seen; it is due at Tue 2026-11-24 07:00 (Europe/Berlin)."
    )


def test_a_job_that_was_removed_can_still_be_asked_about(timeline: Timeline) -> None:
    timeline.follow()
    timeline.later(days=1, hours=1)
    timeline.met(asleep_since=MONDAY)
    timeline.remove("triage")
    timeline.met()
    assert why(timeline.deployment, "triage", at="2026-11-24T06:00Z").outcome == "buffered"
    timeline.later(days=2)
    gone = why(timeline.deployment, "triage", at="2026-11-26T07:00+01:00")
    assert gone.outcome == "no_schedule"
    assert "ended when the job was deleted" in explain(gone).sentence
    with pytest.raises(UsageError, match="unknown job 'nothing'"):
        why(timeline.deployment, "nothing")


def test_without_a_record_nothing_is_claimed_and_no_store_is_made(timeline: Timeline) -> None:
    answer = why(timeline.deployment, "triage")
    assert answer.outcome == "unrecorded"
    assert explain(answer).sentence.startswith("There is no record of triage for Mon 2026-11-23 07:00 (Europe/Berlin)")
    timeline.define("", name="asked")
    asked = why(timeline.deployment, "asked")
    assert (asked.outcome, explain(asked).sentence) == ("no_schedule", "asked has no schedule: it runs only when a command starts it.")
    timeline.write("bad", "def bad(:\n")
    with pytest.raises(ConfigurationError, match=r"bad\.py:1"):
        why(timeline.deployment, "bad")
    assert not timeline.deployment.settings.state_dir.exists()


@pytest.mark.parametrize(
    ("at", "fire", "read"),
    [
        (
            "2026-03-29T02:30",
            "2026-03-29T01:00:00Z",
            "read in Europe/Berlin, where the clock skipped it; taken as the first instant after it",
        ),
        ("2026-10-25T02:30", "2026-10-25T00:30:00Z", "read in Europe/Berlin, where it came twice; taken as the first, the second was"),
        ("2026-10-25T02:30+01:00", "2026-10-25T01:30:00Z", ""),
    ],
)
def test_the_nights_on_which_the_clock_jumps_are_told_of(at: str, fire: str, read: str, timeline: Timeline) -> None:
    timeline.define('schedule=cron("30 2 * * *", timezone="Europe/Berlin")')
    answer = why(timeline.deployment, "triage", at=at)
    assert explain(answer).facts["in utc"] == fire
    assert explain(answer).facts.get("time", "").startswith(read)
    assert "became 0" in explain(answer).facts["clock"]
    assert answer.outcome == ("no_fire" if at.endswith("+01:00") else "unrecorded")


@pytest.mark.parametrize("at", ["yesterday", "2026-13-01", "", "0001-01-01T00:00", "9999-12-31T23:59:59+00:00", "2026-11-24T07:00+99:00"])
def test_what_is_no_time_is_refused(at: str, timeline: Timeline) -> None:
    with pytest.raises(UsageError, match="--at"):
        why(timeline.deployment, "triage", at=at)
