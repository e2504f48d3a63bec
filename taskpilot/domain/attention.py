"""What of the last hours a person should know: runs that ended badly, fires that did not run, questions, pauses, broken files."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from taskpilot.domain.reasons import NO_REASON, Reason, ReasonCode
from taskpilot.domain.runs import RunStatus


class AttentionKind(StrEnum):
    """What happened."""

    FAILED = "failed"
    LOST = "lost"
    TIMED_OUT = "timed_out"
    DENIED = "denied"
    BUDGET_EXCEEDED = "budget_exceeded"
    OUTCOME_FAILED = "outcome_failed"
    WAITING = "waiting"
    UNCERTAIN = "uncertain"
    """It waits for a person to say whether a tool call happened."""
    BLOCKED = "blocked"
    MISSED = "missed"
    PAUSED = "paused"
    BROKEN = "broken"
    NEVER_SUCCEEDED = "never_succeeded"
    SUCCESS_TOO_OLD = "success_too_old"
    NOTICE_FAILED = "notice_failed"
    """A channel did not take what was sent to it."""
    CLOCK = "clock"
    """The clock was set."""


@dataclass(frozen=True, slots=True)
class Attention:
    """One of them; several of a job with one kind are one."""

    kind: AttentionKind
    job: str | None
    """None: it is about no single job."""
    at: datetime | None
    """When it happened; of several, the last."""
    reason: Reason = NO_REASON
    run_id: str | None = None
    fire: datetime | None = None
    count: int = 1
    skipped: int = 0
    """Fires that were skipped since it waits."""
    settled: bool = False
    """Nothing needs to be done: the job succeeded after it, or a person decided so."""


BAD: Final = {
    RunStatus.FAILED: AttentionKind.FAILED,
    RunStatus.LOST: AttentionKind.LOST,
    RunStatus.TIMED_OUT: AttentionKind.TIMED_OUT,
    RunStatus.DENIED: AttentionKind.DENIED,
    RunStatus.BUDGET_EXCEEDED: AttentionKind.BUDGET_EXCEEDED,
}
"""The states in which a run has ended badly."""


def kind_of_run(status: RunStatus, code: ReasonCode) -> AttentionKind | None:
    """What a run in this state is; None where nobody needs to know of it."""
    if status is RunStatus.WAITING:
        return AttentionKind.UNCERTAIN if code in (ReasonCode.UNCERTAIN_STEP, ReasonCode.DIVERGED_STEP) else AttentionKind.WAITING
    return AttentionKind.OUTCOME_FAILED if code is ReasonCode.OUTCOME_FAILED else BAD.get(status)
