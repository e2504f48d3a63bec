"""The shapes of requests and responses in the API's description; `messages/shapes.py` makes the values."""

from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from taskpilot.domain.attention import AttentionKind
from taskpilot.domain.decisions import DecisionStatus, Verdict, Via
from taskpilot.domain.notices import IncidentState, NoticeEvent
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import FeedbackVerdict, FireOutcome, RunStatus, TriggerKind
from taskpilot.domain.tasks import Priority, TaskStatus

Item = TypeVar("Item")
Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""Text from messages/shapes.py, to the microsecond; not parsed here, so that its format stays."""

Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Text of one line."""
ID: Final = "[0-9a-fA-F]{8,32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
"""A whole id, or its last 8 characters or more."""


class Listed(BaseModel, Generic[Item]):
    """A page of a list."""

    items: list[Item]
    next: str | None = Field(description="Path of the next page; null for the last one.")


class Service(BaseModel):
    """Which service this is, and its links."""

    name: str
    version: str
    deployment: str
    links: dict[str, str]


class LastRun(BaseModel):
    """The newest run of a job."""

    run_id: str
    status: RunStatus
    started_at: Instant | None


class Budget(BaseModel):
    """The limits of a run; null means no limit."""

    usd: str | None
    tokens: int | None
    llm_calls: int | None
    tool_calls: int | None


class Pause(BaseModel):
    """A pause of a job."""

    since: Instant
    by: str
    note: str


class Explained(BaseModel):
    """Something with a reason."""

    reason: str = Field(description="A sentence; empty without a reason.")
    reason_code: ReasonCode
    reason_facts: dict[str, str | int | float | bool | None]


class Attention(Explained):
    """What a person should know of, and the command that goes on from there."""

    kind: AttentionKind
    job: str | None
    run_id: str | None
    fire: Instant | None
    command: str


class DayBudget(BaseModel):
    """The budget of the day; null where there is none."""

    day_usd: float | None
    spent_usd: float | None


class NextFire(BaseModel):
    """When a job is due next."""

    job: str
    at: Instant


class SchedulerState(BaseModel):
    """Whether the scheduler runs."""

    state: str
    last_tick: Instant | None


class Status(BaseModel):
    """What happened since an instant."""

    since: Instant
    until: Instant
    ok: bool = Field(description="Whether nothing needs a person.")
    counts: dict[str, int] = Field(description="Runs by state.")
    fires: dict[str, int] = Field(description="Scheduled times by outcome.")
    attention: list[Attention]
    waiting: int
    cost_usd: float | None
    budget: DayBudget
    next: list[NextFire]
    scheduler: SchedulerState


class Job(BaseModel):
    """A job as its file defines it, with its pause and its last run."""

    job: str
    description: str
    file: str | None
    schedule: str | None
    zone: str | None
    next_fire: Instant | None
    last_run: LastRun | None
    model: str | None
    deadline_seconds: float
    attempts: int
    overlap: str
    budget: Budget
    tools: list[str]
    paused: Pause | None
    attention: Attention | None = Field(description="What of it needs a person.")


class Parameter(BaseModel):
    """A parameter of a job."""

    name: str
    type: str
    required: bool
    default: str | None = Field(description="A Python literal.")


class JobDetail(Job):
    """A job with its parameters."""

    parameters: list[Parameter]


class Jobs(Listed[Job]):
    """A page of jobs, and the job files that cannot be loaded."""

    broken: list[str]


class Fire(Explained):
    """The outcome of `count` scheduled times, from `first` to `scheduled_for`."""

    job: str
    scheduled_for: Instant
    first: Instant
    count: int
    outcome: FireOutcome
    run_id: str | None
    recorded_at: Instant


class Tokens(BaseModel):
    """Tokens by kind; `input` includes `cached_input`."""

    input: int
    cached_input: int
    output: int


class Run(Explained):
    """A run."""

    run_id: str
    job: str
    status: RunStatus
    trigger: TriggerKind
    scheduled_for: Instant | None
    created_at: Instant
    started_at: Instant | None
    ended_at: Instant | None
    duration_seconds: float
    deadline_seconds: float
    attempts: int
    attempts_allowed: int
    parameters: dict[str, Any]
    model: str | None
    result: Any
    tokens: Tokens
    cost_usd: float | None = Field(description="null where a call had no known price.")
    llm_calls: int
    tool_calls: int
    trace_id: str


class Attempt(Explained):
    """One attempt of a run."""

    number: int
    status: RunStatus
    started_at: Instant
    ended_at: Instant | None
    duration_seconds: float


class Task(BaseModel):
    """A task."""

    task_id: str
    run_id: str
    job: str
    status: TaskStatus
    priority: Priority
    title: str
    description: str
    reason: str
    created_at: Instant
    updated_at: Instant
    expires_at: Instant | None = Field(description="Of one in review: without an answer until then it is rejected.")
    via: Via | None = Field(description="From where the last answer came.")


class Decision(BaseModel):
    """A policy decision on a tool call."""

    decision_id: str
    run_id: str
    job: str
    agent: str
    tool: str
    arguments: dict[str, Any]
    verdict: Verdict
    status: DecisionStatus
    reasons: list[str]
    engine: str
    path: str
    decided_at: Instant
    settled_by: str | None
    settled_at: Instant | None
    note: str | None
    expires_at: Instant | None = Field(description="Of a question to a person: without an answer until then it is denied.")
    via: Via | None = Field(description="From where the answer came.")
    grant: str | None = Field(description="The standing grant that approved it.")


class Incident(BaseModel):
    """What a person was told of one job and cause."""

    id: str
    job: str | None
    cause: NoticeEvent
    opened_at: Instant
    closed_at: Instant | None
    acknowledged_by: str | None
    notices: int
    state: IncidentState
    acknowledged_at: Instant | None
    last_at: Instant | None
    count: int
    run_id: str | None
    reason_code: ReasonCode
    reason_facts: dict[str, str | int | float | bool | None]
    note: str | None


class Step(BaseModel):
    """A recorded step of a run."""

    step_id: str
    attempt: int
    scope: str
    kind: str
    name: str
    status: str
    input: Any
    result: Any
    error: str | None
    started_at: Instant
    ended_at: Instant | None


class RunStep(BaseModel):
    """What an agent or a tool did. Secrets are masked."""

    id: str
    kind: str
    agent: str | None
    name: str
    status: str
    started_at: Instant
    duration_seconds: float | None
    model: str | None
    input: Any = Field(description="The messages to a model, or the arguments of a tool.")
    result: Any = Field(description="The reply of a model, or the result of a tool.")
    error: str | None
    tokens: Tokens | None
    cost_usd: float | None
    decision_id: str | None
    truncated: bool = Field(description="Whether a text was cut.")


class LogLine(BaseModel):
    """One line of a run's log, or of what its process printed."""

    time: str
    level: str
    message: str


class Artifact(BaseModel):
    """A file that a run wrote."""

    name: str
    bytes: int
    sha256: str
    path: str


class Feedback(BaseModel):
    """A person's rating of a run's result."""

    verdict: FeedbackVerdict
    by: str
    at: Instant
    note: str


class RunDetail(Run):
    """A run with its attempts, tasks and open questions."""

    attempt_list: list[Attempt]
    tasks: list[Task]
    pending_decisions: list[Decision]
    uncertain_steps: list[Step]
    feedback: Feedback | None
    folder: str


class RunRequest(BaseModel):
    """A request for a new run."""

    model_config = ConfigDict(extra="forbid")

    parameters: dict[str, Any] = Field(default={}, description="By name; others have their defaults.")
    model: Line | None = None


class RerunRequest(BaseModel):
    """A request for a new run with the parameters of an earlier one."""

    model_config = ConfigDict(extra="forbid")

    model: Line | None = Field(default=None, description="By default that of the earlier run.")


class ResumeRequest(RerunRequest):
    """A request to continue a run."""


class StepResumeRequest(ResumeRequest):
    """A request to continue a run, with an answer about the step that it waits for."""

    step_id: Annotated[str, StringConstraints(pattern=f"^({ID})$")]
    answer: Literal["done", "again", "fail"] = Field(description="done: it was made, `result` is its result.")
    result: Any = None


class Answer(BaseModel):
    """Who acts, and why; recorded."""

    model_config = ConfigDict(extra="forbid")

    by: Line = Field(default="api", description="A name for the record; the token does not identify a person.")
    note: Annotated[str, StringConstraints(max_length=1000)] = ""


class TaskAnswer(Answer):
    """Who approves a task, and whether a failed one may make its calls again."""

    repeat: StrictBool = False


class FeedbackAnswer(Answer):
    """A rating of a result."""

    verdict: FeedbackVerdict


class Queued(BaseModel):
    """The queued run."""

    run_id: str
    job: str
    status: RunStatus
    link: str
    message: str


class Done(BaseModel):
    """What was done, as a sentence."""

    message: str


class Liveness(BaseModel):
    """Whether the scheduler ticks."""

    alive: bool
    seconds_since_tick: float


class Readiness(BaseModel):
    """Whether runs can be started and recorded now."""

    ready: bool
    reason: str | None


class SchedulerHealth(BaseModel):
    """The scheduler and its work; null means unknown."""

    state: str
    jobs: int | None
    paused: int | None
    running: int | None
    queued: int | None
    last_tick: Instant | None
    lag_seconds: float | None
    next_fire: Instant | None
    restart: list[str] = Field(description="Changed settings that the server follows after a restart only.")


class Check(BaseModel):
    """The check of one part of the deployment."""

    status: Literal["pass", "warn", "fail", "unknown", "off"]
    detail: str


class Finding(BaseModel):
    """A problem, and what helps."""

    status: Literal["warn", "fail"]
    text: str


class Health(BaseModel):
    """The health of the deployment."""

    status: Literal["pass", "warn", "fail"]
    version: str
    scheduler: SchedulerHealth
    checks: dict[str, Check]
    broken: list[str] = Field(description="The job files that cannot be loaded.")
    jobs: list[Attention] = Field(description="The jobs that fail, are blocked, or wait for a person.")
    findings: list[Finding]


class GoldenSignal(BaseModel):
    """One signal."""

    value: float | None
    unit: str
    verdict: Literal["healthy", "degraded", "unhealthy", "no data"]
    window: str
    detail: str


class GoldenSignals(BaseModel):
    """The golden signals of the jobs."""

    success_rate: GoldenSignal
    p95_duration: GoldenSignal
    cost_per_success: GoldenSignal
    policy_violation_rate: GoldenSignal
    confirmed_correctness: GoldenSignal
