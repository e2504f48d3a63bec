"""Why something ended as it did: a code with typed facts, stored as such. `messages` makes the sentence where it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

Fact = str | int | float | bool | None
"""What a fact may be: what JSON can say without nesting. Instants are UTC like `2026-11-24T06:00:00Z` (`utc_iso`), durations are seconds.

A fact that is foreign text (the message of an exception or a policy, a person's note) is shortened and masked where it is made.
"""


class ReasonCode(StrEnum):
    """The closed set of reasons of runs, attempts and fires. Behind each: its facts."""

    NONE = ""
    """Nothing is to be explained: it succeeded, or is under way."""
    UNKNOWN = "unknown"
    """Recorded by an earlier version whose sentence (`text`) names no code. Each reason of that version has its `text` among its facts."""

    # Why a run or an attempt ended, or waits.
    EXCEPTION = "exception"
    """The job raised: `error_type`, `error` (its message, may be empty). `SystemExit`: `error` is its status."""
    EVERY_ITEM_FAILED = "every_item_failed"
    """Not one item of a map succeeded: `error_type`, `error` of the first one. Where all failed for a reason that has a code of its own
    (`provider_unreachable`, `configuration`, `store`, `store_busy`), that code is used, with `every_item: true`."""
    OUTCOME_FAILED = "outcome_failed"
    """A check of the outcome failed (`ctx.require`): `error`."""
    CONFIGURATION = "configuration"
    """The job cannot run as configured: `error`, and `hint` where something helps."""
    PROVIDER_UNREACHABLE = "provider_unreachable"
    """The model's server could not be reached or asked to come back later: `error`."""
    STORE = "store"
    """The store could not be used: `error`."""
    STORE_BUSY = "store_busy"
    """The store was locked for too long: `error`."""
    NOT_STARTED = "not_started"
    """The job's process could not be started: `error`."""
    APPROVAL = "approval"
    """A person has to answer: `tool`, `decision_id` and `policy` (the policy's message), or `task_id` and `title`; `more` counts further
    questions; `expires_at` where it is denied without an answer until then."""
    APPROVAL_EXPIRED = "approval_expired"
    """A person was asked and did not answer in time: `tool` and `decision_id`, or `task_id` and `title`; `expired_at`."""
    UNCERTAIN_STEP = "uncertain_step"
    """A tool had begun and left no result: `run_id`, `step_id`, `tool`; `more`."""
    DIVERGED_STEP = "diverged_step"
    """A tool call differs from the recorded one at its place: `run_id`, `step_id`, `tool`, `recorded_tool`; `more`. Where a map or a
    workflow was given something else than before: `item` ("map", "workflow") in place of the tools."""
    BUDGET = "budget"
    """A call would have gone past a ceiling: `scope` ("run"), `limit` ("usd", "tokens", "llm_calls", "tool_calls"), `ceiling`,
    `used` (spent and reserved) and `wanted` (what the call may need at most)."""
    DENIED = "denied"
    """A tool call was denied: `tool`, and `policy` (the policy's message) or `by` and `note` (a person). Where the job raised `Denied`
    itself: `error`."""
    DEADLINE = "deadline"
    """The active seconds were used up: `deadline_seconds`."""
    CANCELLED_BY_PERSON = "cancelled"
    """A person cancelled it."""
    REPLACED = "replaced"
    """A newer fire of the job took its place: `fire`, where it is known."""
    SIGINT = "sigint"
    """SIGINT reached the command."""
    SIGTERM = "sigterm"
    """SIGTERM or SIGHUP reached the command or the server: `signal` ("SIGTERM")."""
    SIGNAL = "signal"
    """A signal ended the job's process: `signal` ("SIGKILL")."""
    EXITED = "exited"
    """The job's process left before its end was recorded: `exit_status`."""
    LEASE = "lease"
    """The lease ended, or the process that held it is gone; `killed: true` where its supervisor could not renew it."""
    OVERTAKEN = "overtaken"
    """Lost or failed, and not tried again since the job is due again: `fire` (the next one), and `cause` (the code of the last
    attempt's own reason) with the facts of that."""

    # Why a fire did not start, or waits.
    RUN_ACTIVE = "run_active"
    """Another run of the job is active: `run_id`; `lost_run_id` where a lost run of the same fire waits for its end."""
    RUN_WAITING = "run_waiting"
    """A run of the job waits for a person: `run_id`."""
    FIRE_WAITING = "fire_waiting"
    """An earlier fire of the job waits to start: `fire`, and `run_id` where a run of the job is active."""
    INTERRUPTED = "interrupted"
    """The command that waited for its turn was ended: `signal`, and `run_id` or `fire` of what it waited for."""
    PAUSED = "paused"
    """The job was paused: `since`, `by`, `note`."""
    ALREADY_CLAIMED = "already_claimed"
    """The fire has its outcome: `scheduled_for`, `outcome`, `run_id` and `run_status` where a run has it, or `cause` (the code of why it
    did not start) with the facts of that."""
    NO_ATTEMPT_LEFT = "no_attempt_left"
    """The run of the fire is lost and has no attempt left: `fire`, `run_id`."""
    NOTHING_DUE = "nothing_due"
    """`--scheduled-for auto`, and no fire was due: `window_seconds`, `schedule`."""
    JOB_BROKEN = "job_broken"
    """The job's file cannot be loaded: `error`."""
    RESUMED = "resumed"
    """Of the event: the pause was ended: `by`, `note`."""
    REPEATED_FAILURES = "repeated_failures"
    """Of the event: so many runs in a row ended badly that the job was paused: `runs`, `run_id` of the last one."""
    CATCH_UP_WINDOW_PASSED = "catch_up_window_passed"
    """Met too late for catching up: `window_seconds`, and `NOT_MET`."""
    CATCH_UP_OFF = "catch_up_off"
    """Met late, and the job catches up on nothing (`catch_up="skip"`): `NOT_MET`."""
    CATCH_UP_LIMIT = "catch_up_limit"
    """Met late, and more than `limit` later fires are caught up: `limit`, `NOT_MET`."""
    START_DEADLINE = "start_deadline"
    """Its start deadline passed before it could start: `deadline_seconds`, and `NOT_MET` where it was met late."""
    CAUGHT_UP_BY = "caught_up_by"
    """A later fire catches up for it: `fire`, `NOT_MET`."""
    NOBODY_CLAIMED = "nobody_claimed"
    """No scheduler was running, and no command started it in time."""
    WAS_PAUSED = "was_paused"
    """Not met, and then the job was paused: `since`, `by`, `note`, `NOT_MET`."""
    SCHEDULE_CHANGED = "schedule_changed"
    """The job's schedule was changed or its file deleted before it was met: `schedule` (the old one)."""
    COMMAND_GONE = "command_gone"
    """The command that waited to start it is gone, and no server ran."""
    JOB_REMOVED = "job_removed"
    """Its job was removed while it waited to start."""
    NO_SUCCESS = "no_success"
    """Of a job: no success for longer than its schedule allows: `since` (the last one; none where there never was one)."""
    NOTICE_FAILED = "notice_failed"
    """Of a channel: notices did not arrive: `channel`, `notices` (how many), `error` of one of them."""
    CLOCK_SET = "clock_set"
    """Of the machine: the clock was set: `from`, `to`."""


NOT_MET: Final = ("unseen", "asleep_since", "asleep_until", "failing_since", "scheduler_error")
"""Facts about why a fire was not claimed at its time. `unseen` is "asleep" (no scheduler was awake between the two instants), "failing"
(one was awake, and failed since then with that error), "nobody" (no server ran, and no command claimed it) or "late"."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A code and its facts."""

    code: ReasonCode = ReasonCode.NONE
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """False where nothing is to be explained."""
        return self.code is not ReasonCode.NONE

    @property
    def cause(self) -> ReasonCode:
        """The code that the exit code goes by: of a run that was overtaken, that of its last attempt."""
        return ReasonCode(str(self.facts.get("cause", ""))) if self.code is ReasonCode.OVERTAKEN else self.code

    def with_facts(self, **facts: Fact) -> "Reason":
        """The same code with further facts."""
        return Reason(self.code, {**self.facts, **facts})

    def as_cause_of(self, code: ReasonCode, **facts: Fact) -> "Reason":
        """Another code that this one is the `cause` of, with the facts of both."""
        return Reason(code, {**self.facts, "cause": self.code.value, **facts})


NO_REASON: Final = Reason()
