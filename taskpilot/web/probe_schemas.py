"""The shapes of what monitors are answered, as the API's description tells them."""

from typing import Literal

from pydantic import BaseModel, Field

from taskpilot.web.schemas import Instant


class Liveness(BaseModel):
    """Whether the scheduler's loop comes round."""

    alive: bool
    seconds_since_turn: float


class Readiness(BaseModel):
    """Whether a run would be started and recorded now."""

    ready: bool
    reason: str | None


class SchedulerHealth(BaseModel):
    """The scheduler, and what there is for it to do; null is what nobody knows."""

    state: str
    jobs: int | None
    paused: int | None
    running: int | None
    queued: int | None
    last_tick: Instant | None
    lag_seconds: float | None
    next_fire: Instant | None


class Check(BaseModel):
    """One part of the house."""

    status: Literal["pass", "warn", "fail", "unknown", "off"]
    detail: str


class Finding(BaseModel):
    """Something that a person should know."""

    status: Literal["warn", "fail"]
    text: str


class Health(BaseModel):
    """How everything stands."""

    status: Literal["pass", "warn", "fail"]
    version: str
    scheduler: SchedulerHealth
    checks: dict[str, Check]
    broken: list[str] = Field(description="The job files that cannot be loaded.")
    findings: list[Finding]


class GoldenSignal(BaseModel):
    """One figure."""

    value: float | None
    unit: str
    verdict: Literal["healthy", "degraded", "unhealthy", "no data"]
    window: str
    detail: str


class GoldenSignals(BaseModel):
    """Whether the work is worth its while."""

    success_rate: GoldenSignal
    p95_duration: GoldenSignal
    cost_per_success: GoldenSignal
    policy_violation_rate: GoldenSignal
    confirmed_correctness: GoldenSignal
