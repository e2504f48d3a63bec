"""Tasks that a planner proposed, and their allowed transitions."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from taskpilot.domain.decisions import Via
from taskpilot.domain.errors import TransitionRefused
from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.times import utc_iso


class TaskStatus(StrEnum):
    """The state of a task."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVIEW = "review"
    EXECUTED = "executed"
    FAILED = "failed"


class Priority(StrEnum):
    """How urgent a task is."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class ReviewVerdict(StrEnum):
    """A reviewer's answer."""

    APPROVE = "APPROVE"
    REVIEW = "REVIEW"
    REJECTED = "REJECTED"


TITLE_MAX: Final = 500
DESCRIPTION_MAX: Final = 10_000

TRANSITIONS: Final = {
    TaskStatus.PENDING: {TaskStatus.APPROVED, TaskStatus.REJECTED, TaskStatus.REVIEW},
    TaskStatus.REVIEW: {TaskStatus.APPROVED, TaskStatus.REJECTED},
    TaskStatus.APPROVED: {TaskStatus.EXECUTED, TaskStatus.FAILED},
    TaskStatus.FAILED: {TaskStatus.APPROVED},
    TaskStatus.REJECTED: set(),
    TaskStatus.EXECUTED: set(),
}

AFTER_VERDICT: Final = {
    ReviewVerdict.APPROVE: TaskStatus.APPROVED,
    ReviewVerdict.REVIEW: TaskStatus.REVIEW,
    ReviewVerdict.REJECTED: TaskStatus.REJECTED,
}


def check_transition(task_id: str, before: TaskStatus, after: TaskStatus) -> None:
    """Raises TransitionRefused where a task may not go from `before` to `after`."""
    if after not in TRANSITIONS[before]:
        allowed = " or ".join(sorted(TRANSITIONS[before]))
        instead = f"only {allowed}" if allowed else f"{before} is final"
        raise TransitionRefused(f"task {task_id} is {before}; it cannot become {after}: {instead}")


@dataclass(frozen=True, slots=True)
class Task:
    """One work item."""

    id: str
    run_id: str
    job: str
    scope: str
    title: str
    priority: Priority
    description: str
    status: TaskStatus
    reason: str
    """Why it is in its state: the message of the reviewer, the policy or the person."""
    created_at: datetime
    updated_at: datetime
    reopened: int = 0
    """How often a person approved it again after it had failed; each time it is executed from the start."""
    repeats: int = 0
    """The execution, by its number among those, that may repeat the effects of earlier ones: a person said so."""
    expires_at: datetime | None = None
    """Of one that a person reviews or reviewed: without an answer until then it is rejected."""
    via: Via | None = None
    """From where the last answer came."""

    @property
    def question(self) -> Reason:
        """What a person is asked where it is in review."""
        until: dict[str, Fact] = {} if self.expires_at is None else {"expires_at": utc_iso(self.expires_at, timespec="seconds")}
        return Reason(ReasonCode.APPROVAL, {"task_id": self.id, "title": self.title, **until})

    @property
    def expiry(self) -> Reason:
        """Why it is rejected where nobody answered."""
        at = utc_iso(self.expires_at or self.updated_at, timespec="seconds")
        return Reason(ReasonCode.APPROVAL_EXPIRED, {"task_id": self.id, "title": self.title, "expired_at": at})


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The result of one proposed task."""

    id: str
    title: str
    priority: Priority
    status: TaskStatus
    reason: str


@dataclass(frozen=True, slots=True)
class WorkflowResult:
    """The result of one request."""

    request: str
    tasks: tuple[TaskResult, ...]
