"""Why something ended as it did: a code with typed facts, stored as such. `messages` makes the sentence where it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

Fact = str | int | float | bool | None
"""What a fact may be: what JSON can say without nesting. Instants are UTC like `2026-11-24T06:00:00Z`, durations are seconds."""


class ReasonCode(StrEnum):
    """The closed set of reasons of runs, attempts and fires. Behind each: its facts."""

    NONE = ""
    """Nothing is to be explained: it succeeded, or is under way."""
    UNKNOWN = "unknown"
    """Recorded by an earlier version whose sentence (`text`) names no code."""

    # Why a run or an attempt ended, or waits.
    EXCEPTION = "exception"
    """The job raised: `error_type`, `error`."""
    EVERY_ITEM_FAILED = "every_item_failed"
    """Not one item of a map succeeded: `error_type`, `error` of the first one."""
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
    APPROVAL = "approval"
    """A person has to answer: `tool`, `decision_id`, or `task_id` and `title`; `more` counts further questions."""
    UNCERTAIN_STEP = "uncertain_step"
    """A tool had begun and left no result: `step_id`, `tool`; `more`."""
    DIVERGED_STEP = "diverged_step"
    """A tool call differs from the recorded one at its place: `step_id`, `tool`; `more`."""
    BUDGET = "budget"
    """A call would have gone past a ceiling: `scope` ("run"), `limit` ("usd", "tokens", "llm_calls", "tool_calls"), `ceiling`, `used`, `wanted`."""
    DENIED = "denied"
    """A tool call was denied: `tool`, and `error` (what policy said) or `by` and `note` (a person)."""
    DEADLINE = "deadline"
    """The active seconds were used up: `deadline_seconds`."""
    CANCELLED_BY_PERSON = "cancelled"
    """A person cancelled it."""
    REPLACED = "replaced"
    """A newer fire of the job took its place: `fire`, where it is known."""
    SIGINT = "sigint"
    """SIGINT reached the command."""
    SIGTERM = "sigterm"
    """SIGTERM or SIGHUP reached the command or the server: `signal`."""
    SIGNAL = "signal"
    """A signal ended the job's process: `signal`, and `core_dumped` or `out_of_memory` where known."""
    EXITED = "exited"
    """The job's process left before its end was recorded: `exit_status`."""
    LEASE = "lease"
    """The lease ended, or the process that held it is gone."""
    OVERTAKEN = "overtaken"
    """Lost or failed, and not tried again since the job is due again: `fire` (the next one), and `cause` (the code of the attempt's own reason) with its facts."""

    # Why a fire did not start, or waits.
    RUN_ACTIVE = "run_active"
    """Another run of the job is active: `run_id`."""
    FIRE_WAITING = "fire_waiting"
    """An earlier fire of the job waits to start: `fire`."""
    INTERRUPTED = "interrupted"
    """The command that waited for its turn was ended: `signal`, `run_id`."""
    PAUSED = "paused"
    """The job was paused: `since`, `by`, `note`."""
    ALREADY_CLAIMED = "already_claimed"
    """The fire has its outcome: `outcome`, `run_id`."""
    JOB_BROKEN = "job_broken"
    """The job's file cannot be loaded: `error`."""
    CATCH_UP_WINDOW_PASSED = "catch_up_window_passed"
    """Met too late for catching up: `window_seconds`, and why it was not met: see `NOT_MET`."""
    CATCH_UP_OFF = "catch_up_off"
    """Met late, and the job catches up on nothing (`catch_up="skip"`)."""
    CATCH_UP_LIMIT = "catch_up_limit"
    """Met late, and more than `limit` later fires are caught up."""
    START_DEADLINE = "start_deadline"
    """Its start deadline passed before it could start: `deadline_seconds`."""
    CAUGHT_UP_BY = "caught_up_by"
    """A later fire catches up for it: `fire`."""
    NOBODY_CLAIMED = "nobody_claimed"
    """No server ran, and no command claimed it in time."""
    WAS_PAUSED = "was_paused"
    """Not met, and then the job was paused: `since`, `by`, `note`."""
    SCHEDULE_CHANGED = "schedule_changed"
    """The job's schedule was changed or its file deleted before it was met."""


NOT_MET: Final = ("unseen", "asleep_since", "asleep_until")
"""Facts that tell why a fire was not met at its time: `unseen` is "asleep" (no scheduler was awake between the two instants), "nobody",
"resumed", "changed" or "late"."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A code and its facts."""

    code: ReasonCode = ReasonCode.NONE
    facts: Mapping[str, Fact] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """False where nothing is to be explained."""
        return self.code is not ReasonCode.NONE


NO_REASON: Final = Reason()
