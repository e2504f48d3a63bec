"""The recorded steps of a run."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from taskpilot.domain.usage import Usage


class StepKind(StrEnum):
    """What a step does; `ask` is one LLM call, `call` one tool call, `step` one named Python function."""

    ASK = "ask"
    CALL = "call"
    STEP = "step"
    APPROVE = "approve"
    """A question of the job's own to a person."""
    NOW = "now"
    UUID = "uuid"
    RECALL = "recall"
    REMEMBER = "remember"
    GIVEN = "given"
    """What a map or a workflow was given, as digests; `diverged`: it was given something else in a later attempt."""


NOTES: Final = frozenset({StepKind.NOW, StepKind.UUID, StepKind.RECALL, StepKind.REMEMBER, StepKind.GIVEN})
"""Steps that begin and end at once."""
MEMORY: Final = "/memory"
"""The scope of everything that a run remembers, so that a later run finds it by the index of steps."""


class StepStatus(StrEnum):
    """The state of a step; `unknown`: begun, and whether it happened cannot be determined."""

    BEGUN = "begun"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DENIED = "denied"
    UNKNOWN = "unknown"
    DIVERGED = "diverged"
    """Not made: another call is recorded at its place; a person has to decide."""
    RETRY_REQUESTED = "again"
    """It was unknown or diverged, and a person asked for it to be made again."""


@dataclass(frozen=True, slots=True)
class StepPlace:
    """The place and the input of a step: its identity over attempts."""

    scope: str
    kind: StepKind
    name: str
    ordinal: int
    """Its number among those of its kind in its scope, from 0."""
    key: str
    """Hex digest of scope, kind, name, the input's digest and the count of equal ones before it in the scope."""
    input_digest: str


@dataclass(frozen=True, slots=True)
class Step:
    """A recorded step."""

    id: str
    run_id: str
    attempt: int
    scope: str
    kind: StepKind
    name: str
    ordinal: int
    key: str
    make: int
    """0 for the first time it was made; a failed or unknown one that is made again gets the next number."""
    status: StepStatus
    input: Any
    result: Any
    error: str | None
    error_type: str | None
    started_at: datetime
    ended_at: datetime | None
    agent: str | None = None
    model: str | None = None
    usage: Usage | None = None
    cost_nano: int | None = None
    reserved_nano: int | None = None
    reserved_tokens: int = 0
    retries: tuple[str, ...] = ()
    diverged: bool = False
    decision_id: str | None = None
    idempotent: bool = True
    position: int = 0
    """Its number among the steps of its run by start, over all attempts."""


@dataclass(frozen=True)
class StepAnswer:
    """A person's answer about an uncertain or diverged call."""

    step_id: str
    kind: Literal["done", "again", "fail"]
    result: Any = None
