"""Reasons in words: each code with all of its facts, with none of them, and with facts of any kind."""

from collections.abc import Mapping
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.runs import RunStatus
from taskpilot.messages.reasons import LINE, next_command, reason_line, reason_sentence, status_line, status_sentence

FIRE: Final = "2026-11-24T06:00:00Z"
ASLEEP: Final = {"unseen": "asleep", "asleep_since": "2026-11-24T01:00:00Z", "asleep_until": "2026-11-24T09:00:00Z"}
NO_SCHEDULER: Final = "no scheduler was running from 2026-11-24T01:00:00Z to 2026-11-24T09:00:00Z"
NOBODY: Final = "no scheduler was running, and no command started it"
PAUSE: Final = {"since": "2026-11-25T20:00:00Z", "by": "anna", "note": "the tracker moves"}
SAYS: Final[list[tuple[ReasonCode, Mapping[str, Fact], str]]] = [
    (ReasonCode.NONE, {}, ""),
    (ReasonCode.UNKNOWN, {"text": "a sentence of an older version"}, "a sentence of an older version"),
    (ReasonCode.EXCEPTION, {"error_type": "ValueError", "error": "no inbox"}, "ValueError: no inbox"),
    (ReasonCode.EXCEPTION, {"error_type": "KeyError", "error": ""}, "KeyError"),
    (ReasonCode.EXCEPTION, {"error_type": "SystemExit", "error": "3"}, "the job called sys.exit(3)"),
    (
        ReasonCode.EVERY_ITEM_FAILED,
        {"error_type": "ValueError", "error": "bad"},
        "every item failed, the first one with ValueError: bad",
    ),
    (ReasonCode.OUTCOME_FAILED, {"error": "no task was filed"}, "a ctx.require() check failed: no task was filed"),
    (ReasonCode.CONFIGURATION, {"error": "no model", "hint": "set TASKPILOT_MODEL"}, "no model; fix: set TASKPILOT_MODEL"),
    (ReasonCode.PROVIDER_UNREACHABLE, {"error": "connection refused"}, "the model is not available: connection refused"),
    (
        ReasonCode.PROVIDER_UNREACHABLE,
        {"error": "connection refused", "every_item": True},
        "every item failed, the first one because the model is not available: connection refused",
    ),
    (ReasonCode.STORE, {"error": "disk full"}, "the store cannot be used: disk full"),
    (ReasonCode.STORE_BUSY, {"error": "locked"}, "the store was locked for too long: locked"),
    (ReasonCode.NOT_STARTED, {"error": "no process left"}, "the job's process could not be started: no process left"),
    (
        ReasonCode.APPROVAL,
        {"tool": "open_ticket", "decision_id": "d", "policy": "it says sensitive", "more": 2},
        "the call of open_ticket needed a person's approval: it says sensitive (and 2 more)",
    ),
    (ReasonCode.APPROVAL, {"task_id": "t", "title": "Delete it"}, 'the task "Delete it" needed a person\'s approval'),
    (
        ReasonCode.APPROVAL_EXPIRED,
        {"tool": "open_ticket", "decision_id": "d", "expired_at": FIRE},
        f"nobody answered: the call of open_ticket needed a person's approval until {FIRE}",
    ),
    (
        ReasonCode.UNCERTAIN_STEP,
        {"run_id": "r", "step_id": "s", "tool": "open_ticket", "more": 1},
        "open_ticket had started and left no result, and it is not safe to call it again (and 1 more)",
    ),
    (
        ReasonCode.DIVERGED_STEP,
        {"run_id": "r", "step_id": "s", "tool": "notify", "recorded_tool": "open_ticket"},
        "notify was not called, since an earlier attempt called open_ticket with other arguments at this place",
    ),
    (
        ReasonCode.BUDGET,
        {"scope": "run", "limit": "usd", "ceiling": 0.5, "used": 0.49, "wanted": 0.02},
        "the run's budget of 0.50 USD is used up: 0.49 USD used or reserved, the next call could take 0.02 USD",
    ),
    (
        ReasonCode.BUDGET,
        {"scope": "run", "limit": "llm_calls", "ceiling": 2000, "used": 2000, "wanted": 1},
        "the run's budget of 2,000 LLM calls is used up: 2,000 LLM calls used or reserved, the next call could take 1 LLM calls",
    ),
    (ReasonCode.DENIED, {"tool": "rm", "policy": "it deletes"}, "rm was denied: it deletes"),
    (ReasonCode.DENIED, {"tool": "rm", "by": "anna", "note": "not on a Monday"}, "anna denied rm: not on a Monday"),
    (ReasonCode.DENIED, {"error": "the job says no"}, "the job says no"),
    (ReasonCode.DEADLINE, {"deadline_seconds": 900}, "the deadline of 15m passed"),
    (ReasonCode.CANCELLED_BY_PERSON, {}, "cancelled by a person"),
    (ReasonCode.REPLACED, {"fire": FIRE}, f"the fire of {FIRE} took its place"),
    (ReasonCode.SIGINT, {}, "cancelled by SIGINT (Ctrl-C)"),
    (ReasonCode.SIGTERM, {"signal": "SIGHUP"}, "ended by SIGHUP; finished steps are kept"),
    (ReasonCode.SIGNAL, {"signal": "SIGKILL"}, "the job's process was killed by SIGKILL"),
    (ReasonCode.EXITED, {"exit_status": 3}, "the job's process exited with status 3 before its end was recorded"),
    (ReasonCode.LEASE, {}, "its process is gone, or its lease expired"),
    (ReasonCode.LEASE, {"killed": True}, "its lease could not be renewed, so its process was ended"),
    (
        ReasonCode.OVERTAKEN,
        {"fire": FIRE, "cause": "exception", "error_type": "ValueError", "error": "bad"},
        f"ValueError: bad; not tried again, since the job is due again at {FIRE}",
    ),
    (ReasonCode.RUN_ACTIVE, {"run_id": "r1"}, "run r1 was active"),
    (ReasonCode.RUN_ACTIVE, {"run_id": "r1", "lost_run_id": "r0"}, "run r1 was active; the lost run r0 waits for its end"),
    (ReasonCode.FIRE_WAITING, {"fire": FIRE, "run_id": "r1"}, f"the fire of {FIRE} was already waiting to start, behind run r1"),
    (ReasonCode.INTERRUPTED, {"signal": "SIGTERM", "run_id": "r1"}, "the command that waited for run r1 was ended by SIGTERM"),
    (ReasonCode.INTERRUPTED, {"signal": "SIGINT", "fire": FIRE}, f"the command that waited for the fire of {FIRE} was ended by SIGINT"),
    (ReasonCode.PAUSED, PAUSE, "the job was paused since 2026-11-25T20:00:00Z by anna: the tracker moves"),
    (
        ReasonCode.ALREADY_CLAIMED,
        {"scheduled_for": FIRE, "outcome": "started", "run_id": "r1", "run_status": "running"},
        f"run r1 already has the fire of {FIRE} and is running",
    ),
    (
        ReasonCode.ALREADY_CLAIMED,
        {"scheduled_for": FIRE, "outcome": "skipped_overlap", "cause": "run_active", "run_id": "r1"},
        f"the fire of {FIRE} is already decided: run r1 was active",
    ),
    (ReasonCode.ALREADY_CLAIMED, {"scheduled_for": FIRE, "outcome": "missed"}, f"the fire of {FIRE} is already missed"),
    (ReasonCode.NO_ATTEMPT_LEFT, {"fire": FIRE, "run_id": "r1"}, f"run r1 of the fire of {FIRE} is lost and has no attempt left"),
    (ReasonCode.NOTHING_DUE, {"window_seconds": 3600, "schedule": "every 2h"}, "no fire was due in the last 1h (every 2h)"),
    (ReasonCode.JOB_BROKEN, {"error": "x.py:1: SyntaxError"}, "the job's file could not be loaded: x.py:1: SyntaxError"),
    (ReasonCode.CATCH_UP_WINDOW_PASSED, {"window_seconds": 5400, **ASLEEP}, f"{NO_SCHEDULER}; its catch-up window of 1h30m has passed"),
    (ReasonCode.CATCH_UP_OFF, ASLEEP, f'{NO_SCHEDULER}; the job has catch_up="skip"'),
    (ReasonCode.CATCH_UP_LIMIT, {"limit": 10, **ASLEEP}, f"{NO_SCHEDULER}; only the latest 10 fires are caught up"),
    (ReasonCode.START_DEADLINE, {"deadline_seconds": 60}, "its start deadline of 1m passed before it could start"),
    (
        ReasonCode.START_DEADLINE,
        {"deadline_seconds": 60, **ASLEEP},
        f"{NO_SCHEDULER}; its start deadline of 1m passed before it could start",
    ),
    (ReasonCode.CAUGHT_UP_BY, {"fire": FIRE, "unseen": "late"}, f"it was not started in time; the fire of {FIRE} catches up for it"),
    (
        ReasonCode.CAUGHT_UP_BY,
        {"fire": FIRE, "unseen": "failing", "failing_since": "2026-11-24T01:00:00Z", "scheduler_error": "disk full"},
        f"the scheduler failed since 2026-11-24T01:00:00Z: disk full; the fire of {FIRE} catches up for it",
    ),
    (ReasonCode.NOBODY_CLAIMED, {}, NOBODY),
    (
        ReasonCode.WAS_PAUSED,
        {**PAUSE, "unseen": "nobody"},
        f"{NOBODY}; then the job was paused since 2026-11-25T20:00:00Z by anna: the tracker moves",
    ),
    (ReasonCode.SCHEDULE_CHANGED, {"schedule": "every 1h"}, "its schedule was changed before it could start; it was every 1h"),
    (ReasonCode.RESUMED, {"by": "bob", "note": "moved"}, "resumed by bob: moved"),
    (ReasonCode.REPEATED_FAILURES, {"runs": 3, "run_id": "r1"}, "its last 3 runs did not succeed; the last was run r1"),
    (ReasonCode.COMMAND_GONE, {}, "the command that waited to start it is gone, and no scheduler was running"),
    (ReasonCode.JOB_REMOVED, {}, "the job was removed while it waited to start"),
    (ReasonCode.RUN_WAITING, {"run_id": "r1"}, "run r1 was waiting for a person"),
    (ReasonCode.NO_SUCCESS, {"since": FIRE}, f"no success since {FIRE}, too long for its schedule"),
    (ReasonCode.NO_SUCCESS, {"since": None}, "no success yet, too long for its schedule"),
    (
        ReasonCode.NOTICE_FAILED,
        {"channel": "ops", "notices": 3, "error": "it answered HTTP 503"},
        "3 notices did not arrive at the channel ops: it answered HTTP 503",
    ),
    (ReasonCode.CLOCK_SET, {"from": FIRE, "to": "2026-11-24T08:00:00Z"}, f"the clock was set from {FIRE} to 2026-11-24T08:00:00Z"),
]
NAMES: Final = sorted({name for _, facts, _ in SAYS for name in facts} - {"text"})
ANYTHING: Final = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("a1ü {}%\n\x1b\u202e") | st.sampled_from(list(ReasonCode)).map(str)
)


@pytest.mark.parametrize(("code", "facts", "sentence"), SAYS, ids=lambda value: str(value)[:30])
def test_a_reason_is_said_with_its_facts(code: ReasonCode, facts: Mapping[str, Fact], sentence: str) -> None:
    assert reason_sentence(Reason(code, facts)) == sentence


def test_every_code_has_its_sentence_above() -> None:
    assert {code for code, _, _ in SAYS} == set(ReasonCode)


@given(st.sampled_from([code for code in ReasonCode if code]), st.dictionaries(st.sampled_from(NAMES), ANYTHING), st.booleans())
def test_no_facts_and_no_kind_of_facts_break_a_sentence(code: ReasonCode, facts: dict[str, Fact], now: bool) -> None:
    bare = reason_sentence(Reason(code), now=now)
    assert bare not in ("", code.value)
    assert "_" not in bare.replace("catch_up=", "")
    for signs in ("None", "  ", ": ;", ":)"):
        assert signs not in bare
    assert not bare.endswith((":", ";", ",", " "))
    reason_sentence(Reason(code, facts), now=now)
    absent = dict.fromkeys(facts, None)
    assert reason_sentence(Reason(code, absent), now=now) == bare


@pytest.mark.parametrize("code", [code for code in ReasonCode if code])
def test_the_sentence_of_an_older_version_stands_as_it_was(code: ReasonCode) -> None:
    assert reason_sentence(Reason(code, {"text": "run 7 is active", "run_id": "7"})) == "run 7 is active"


@pytest.mark.parametrize(
    ("reason", "now"),
    [
        (Reason(ReasonCode.RUN_ACTIVE, {"run_id": "r1"}), "run r1 is active"),
        (Reason(ReasonCode.PAUSED, PAUSE), "the job is paused since 2026-11-25T20:00:00Z by anna: the tracker moves"),
        (Reason(ReasonCode.FIRE_WAITING, {"fire": FIRE}), f"the fire of {FIRE} is already waiting to start"),
        (Reason(ReasonCode.APPROVAL, {"tool": "open_ticket"}), "the call of open_ticket needs a person's approval"),
        (
            Reason(ReasonCode.APPROVAL, {"tool": "open_ticket", "expires_at": FIRE}),
            f"the call of open_ticket needs a person's approval; without an answer it is denied at {FIRE}",
        ),
        (Reason(ReasonCode.JOB_BROKEN), "the job's file cannot be loaded"),
    ],
)
def test_what_still_holds_is_said_in_the_present_tense(reason: Reason, now: str) -> None:
    assert reason_sentence(reason, now=True) == now


def test_a_list_gets_one_short_printable_line() -> None:
    reason = Reason(ReasonCode.EXCEPTION, {"error_type": "ValueError", "error": "a\nb\x1b[31m" + "c" * 5000})
    line = reason_line(reason)
    assert line.startswith("ValueError: a b\\x1b[31mccc")
    assert len(line) == LINE
    assert status_line(RunStatus.FAILED, reason).startswith("failed: ValueError: a b")
    assert status_sentence(RunStatus.SUCCEEDED, Reason()) == "succeeded"
    assert status_sentence(RunStatus.WAITING, Reason(ReasonCode.APPROVAL)) == "waiting: it needs a person's approval"


def test_a_reason_that_something_helps_against_has_a_command() -> None:
    assert next_command("triage", Reason(ReasonCode.PAUSED, PAUSE)) == "taskpilot jobs resume triage"
    assert next_command("triage", Reason(ReasonCode.JOB_BROKEN)) == "taskpilot jobs validate"
    assert next_command("triage", Reason(ReasonCode.RUN_ACTIVE, {"run_id": "r1"})) == "taskpilot runs show r1"
    assert next_command("triage", Reason(ReasonCode.NO_ATTEMPT_LEFT, {"run_id": "r1"})) == "taskpilot runs resume r1"
    assert next_command("triage", Reason(ReasonCode.NOBODY_CLAIMED)) == ""
