"""Verdicts of a policy, a rail, a reviewer or a person on one effect."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from taskpilot.domain.reasons import Reason, ReasonCode


class Verdict(StrEnum):
    """Whether an effect may happen."""

    ALLOW = "allow"
    DENY = "deny"
    REQUIRE_APPROVAL = "require_approval"


class DecisionStatus(StrEnum):
    """The state of a decision: settled by the engine, or waiting for or settled by a person."""

    FINAL = "final"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class PolicyInput:
    """The input of a policy for one tool call; all of it may be untrusted."""

    tool: str
    arguments: dict[str, Any]
    agent: str
    """planner, reviewer, executor, an agent's name, or `job` for a call that the job's own code makes."""
    job: str
    run_id: str
    job_tools: tuple[str, ...]
    """Names of the tools that the job lists."""


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """The answer of a policy engine; anything but a definite allow is a denial."""

    verdict: Verdict
    reasons: tuple[str, ...]
    engine: str
    path: str
    """The entry point that was evaluated, as OPA's decision log names it."""
    evaluation_nanoseconds: int = 0
    error: str | None = None
    """`policy_error` and its cause where the engine failed; the verdict is then deny."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One recorded verdict."""

    id: str
    run_id: str
    job: str
    step_key: str
    """An approval holds for the call with this key alone: exactly that tool and those arguments."""
    agent: str
    tool: str
    arguments: dict[str, Any]
    engine: str
    path: str
    verdict: Verdict
    status: DecisionStatus
    reasons: tuple[str, ...]
    decided_at: datetime
    evaluation_nanoseconds: int = 0
    input: dict[str, Any] = field(default_factory=dict)
    settled_by: str | None = None
    settled_at: datetime | None = None
    note: str | None = None

    @property
    def question(self) -> Reason:
        """What a person is asked: why the run waits for this decision."""
        return Reason(ReasonCode.APPROVAL, {"tool": self.tool, "decision_id": self.id, "policy": "; ".join(self.reasons)})
