"""Events that signals receive as they happen."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from taskpilot.domain.decisions import Decision
from taskpilot.domain.runs import Run


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The run that an event belongs to."""

    run_id: str
    job: str
    attempt: int
    trace_id: str
    root_span_id: str
    deployment: str

    @classmethod
    def of(cls, run: Run, *, attempt: int, deployment: str) -> Self:
        """An attempt of a recorded run."""
        return cls(run.id, run.job, attempt, run.trace_id, run.root_span_id, deployment)


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened: a sentence for people, a stable `action` and fields for machines."""

    run: RunIdentity
    at: datetime
    action: str
    """The stable name, as ECS `event.action`: run-started, step-ended, decision-made, ..."""
    message: str
    level: str = "info"
    fields: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    """Its type, message and traceback go into the line's `error.*` fields."""


class EventKind(StrEnum):
    """The kind of a row of the `events` table: a change that a notice may be sent for."""

    RUN_SUCCEEDED = "run_succeeded"
    RUN_FAILED = "run_failed"
    RUN_LOST = "run_lost"
    RUN_TIMED_OUT = "run_timed_out"
    RUN_DENIED = "run_denied"
    RUN_OVER_BUDGET = "run_over_budget"
    OUTCOME_FAILED = "outcome_failed"
    RUN_CANCELLED = "run_cancelled"
    FIRE_MISSED = "fire_missed"
    FIRE_BLOCKED = "fire_blocked"
    APPROVAL_ASKED = "approval_asked"
    APPROVAL_EXPIRING = "approval_expiring"
    APPROVAL_EXPIRED = "approval_expired"
    JOB_PAUSED = "job_paused"
    JOB_RESUMED = "job_resumed"


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """A verdict was recorded."""

    run: RunIdentity
    decision: Decision


Fact = Event | DecisionMade
