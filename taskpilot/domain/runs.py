"""Runs, attempts and outcomes, with their states."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from taskpilot.domain.exits import ExitCode
from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.times import BootTime
from taskpilot.domain.usage import Spend


class RunStatus(StrEnum):
    """The state of a run or an attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    DENIED = "denied"
    BUDGET_EXCEEDED = "budget_exceeded"
    LOST = "lost"


OPEN: Final = frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING})
"""A run in one of these has not ended."""

RESUMABLE: Final = frozenset(
    {RunStatus.WAITING, RunStatus.QUEUED, RunStatus.LOST, RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.BUDGET_EXCEEDED}
)
"""`runs resume` continues a run in one of these from its journal."""


class TriggerKind(StrEnum):
    """What started a run."""

    MANUAL = "manual"
    SCHEDULE = "schedule"
    RESUME = "resume"


class FireOutcome(StrEnum):
    """The outcome of a fire."""

    STARTED = "started"
    SKIPPED_OVERLAP = "skipped_overlap"
    MISSED = "missed"
    COALESCED = "coalesced"
    PAUSED = "paused"
    BLOCKED_BUDGET = "blocked_budget"
    BLOCKED_CONFIG = "blocked_config"
    BUFFERED = "buffered"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a lease: enough to find out on the same host whether it has ended."""

    host: str
    boot_id: str
    pid: int
    process_start: int
    """Clock ticks after boot, from /proc: a later process with the same pid has another value."""


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a job, as the store has it."""

    id: str
    job: str
    status: RunStatus
    reason: Reason
    trigger: TriggerKind
    scheduled_for: datetime | None
    previous_fire: datetime | None
    previous_success: datetime | None
    parameters: dict[str, Any]
    model: str | None
    trace_id: str
    root_span_id: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempts: int
    attempts_allowed: int
    active_micros: int
    deadline_micros: int
    result: Any
    spend: Spend
    cancel_requested: bool
    progress_done: int | None = None
    progress_total: int | None = None
    traceparent: str | None = None
    cancel_grace: timedelta | None = None
    """How long it may take to end where a newer fire of its job ends it; None where a person does."""

    @property
    def deadline_reason(self) -> Reason:
        """Why it has timed out, where its active seconds are used up."""
        return Reason(ReasonCode.DEADLINE, {"deadline_seconds": self.deadline_micros / 1_000_000})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a run's process."""

    id: str
    run_id: str
    number: int
    status: RunStatus
    reason: Reason
    started_at: datetime
    ended_at: datetime | None
    active_micros: int
    file_digest: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an attempt."""

    status: RunStatus
    reason: Reason = NO_REASON
    result: Any = None
    retry: bool = False
    """True where the attempt may be followed by another one, if the run has one left."""


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """The right to write to a run, until it ends; every write carries the token."""

    run_id: str
    attempt_id: str
    attempt: int
    token: str
    expires_at: BootTime


_BY_STATUS: Final = {
    RunStatus.SUCCEEDED: ExitCode.SUCCEEDED,
    RunStatus.FAILED: ExitCode.FAILED,
    RunStatus.LOST: ExitCode.FAILED,
    RunStatus.TIMED_OUT: ExitCode.DEADLINE,
    RunStatus.CANCELLED: ExitCode.CANCELLED,
    RunStatus.DENIED: ExitCode.DENIED,
    RunStatus.BUDGET_EXCEEDED: ExitCode.BUDGET,
    RunStatus.WAITING: ExitCode.WAITING,
    RunStatus.QUEUED: ExitCode.TEMPORARY,
    RunStatus.RUNNING: ExitCode.TEMPORARY,
}

_BY_REASON: Final = {
    ReasonCode.OUTCOME_FAILED: ExitCode.REQUIREMENT,
    ReasonCode.PROVIDER_UNREACHABLE: ExitCode.TEMPORARY,
    ReasonCode.STORE: ExitCode.STORE,
    ReasonCode.STORE_BUSY: ExitCode.TEMPORARY,
    ReasonCode.NOT_STARTED: ExitCode.STORE,
    ReasonCode.CONFIGURATION: ExitCode.CONFIGURATION,
    ReasonCode.SIGINT: ExitCode.SIGINT,
    ReasonCode.SIGTERM: ExitCode.SIGTERM,
}


def exit_code(status: RunStatus, code: ReasonCode) -> ExitCode:
    """The exit code of a run or attempt in this state; `code` is its reason's `cause`."""
    return _BY_REASON.get(code, _BY_STATUS[status])


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The result of a run, as the JSON summary line shows it."""

    run_id: str | None
    job: str
    status: str
    reason: Reason = NO_REASON
    """In the JSON it is the sentence, beside `reason_code` and `reason_facts`."""
    result: Any = None
    attempts: int = 0
    duration_seconds: float = 0.0
    tasks: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    cost_usd: float | None = None
    llm_calls: int = 0
    tool_calls: int = 0
    trace_id: str | None = None


class FeedbackVerdict(StrEnum):
    """Whether the result was right."""

    CORRECT = "correct"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Feedback:
    """The rating of one run; a later one replaces it."""

    run_id: str
    verdict: FeedbackVerdict
    given_by: str
    given_at: datetime
    note: str = ""
