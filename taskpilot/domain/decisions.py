"""Verdicts of a policy, a rail, a reviewer or a person on one effect."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from taskpilot.domain.argument_schema import arguments_fit
from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.times import utc_iso

APPROVE: Final = "ctx.approve"
"""The tool of a question that a job asks in its own words."""


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
    EXPIRED = "expired"
    """Nobody answered in time: it is denied."""


class Via(StrEnum):
    """From where an answer came."""

    TERMINAL = "terminal"
    PAGE = "page"
    API = "api"
    LINK = "link"
    """The link in a notice."""
    GRANT = "grant"
    """A standing grant that a person gave before."""
    EXPIRY = "expiry"
    """Nobody answered."""


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
    expires_at: datetime | None = None
    """Where a person is asked: without an answer until then it is denied."""
    via: Via | None = None
    grant_id: str | None = None
    """The standing grant that approved it."""

    @property
    def question(self) -> Reason:
        """What a person is asked: why the run waits for this decision."""
        until: dict[str, Fact] = {} if self.expires_at is None else {"expires_at": utc_iso(self.expires_at, timespec="seconds")}
        return Reason(ReasonCode.APPROVAL, {"tool": self.tool, "decision_id": self.id, "policy": "; ".join(self.reasons), **until})

    @property
    def expiry(self) -> Reason:
        """Why the call is denied where nobody answered."""
        return Reason(
            ReasonCode.APPROVAL_EXPIRED,
            {"tool": self.tool, "decision_id": self.id, "expired_at": utc_iso(self.expires_at or self.decided_at, timespec="seconds")},
        )


def warned_at(asked_at: datetime, expires_at: datetime) -> datetime:
    """When a person is told that a question is about to expire."""
    return asked_at + (expires_at - asked_at) * _WARNED_AFTER


_WARNED_AFTER: Final = 0.75


class GrantState(StrEnum):
    """Whether a standing grant still approves calls."""

    OPEN = "open"
    USED = "used"
    """As often as it may."""
    ENDED = "ended"
    """Its time is over."""
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Grant:
    """A person's yes to further calls of one tool in one job, so often and so long."""

    id: str
    decision_id: str
    """The decision that it was given with, and the first that used it."""
    job: str
    tool: str
    arguments: dict[str, Any]
    """Those of that decision; without a schema, calls with exactly these."""
    schema: dict[str, Any] | None
    until: datetime
    uses_max: int
    uses: int
    granted_by: str
    granted_at: datetime
    note: str = ""
    revoked_by: str | None = None
    revoked_at: datetime | None = None

    def covers(self, arguments: dict[str, Any]) -> bool:
        """Whether it is about a call with these arguments."""
        return arguments == self.arguments if self.schema is None else arguments_fit(self.schema, arguments)

    def state(self, now: datetime) -> GrantState:
        """Whether it still approves calls."""
        if self.revoked_at is not None:
            return GrantState.REVOKED
        if self.uses >= self.uses_max:
            return GrantState.USED
        return GrantState.OPEN if now < self.until else GrantState.ENDED
