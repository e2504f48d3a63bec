"""All metrics: name, kind, labels, unit, the question that it answers, and the source of a gauge's value."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from taskpilot.domain.decisions import Verdict
from taskpilot.domain.runs import OPEN, FeedbackVerdict, FireOutcome, RunStatus
from taskpilot.domain.tasks import TaskStatus


class Kind(StrEnum):
    """The type of a metric."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. The store keeps whole numbers; `scale` of them make one of the exported unit."""

    name: str
    kind: Kind
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """By name, the values that are known beforehand, of which zeros are exported. None: those that the job names, or any."""
    scale: int = 1
    buckets: tuple[float, ...] = ()
    """Upper bounds in the exported unit, without +Inf."""
    column: str = ""
    """Of a gauge: the column of `job_state` that it shows; `{label}` is replaced by a label's value."""
    fact: str = ""
    """Of a gauge: the field of `JobFacts` that it shows."""
    may_lapse: bool = False
    """A job may have the gauge's value and later not. It is pushed as NaN then: the gateway keeps the last value of what is not pushed."""
    per_job: bool = True
    """False: of the whole deployment."""


_MICROS: Final = 1_000_000
_NANO: Final = 1_000_000_000
_SHORT: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_LONG: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
_ANY: Final = ()
"""Of `model`, `tool` and `agent` the job names the values that get a zero."""
_TOKEN_KINDS: Final = ("input", "cached_input", "output")
_every: list[Instrument] = []


def _known(labels: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(str(value) for value in values) for name, values in labels.items()}


def _kept(instrument: Instrument) -> Instrument:
    _every.append(instrument)
    return instrument


def _counter(name: str, text: str, *, scale: int = 1, **labels: Iterable[str]) -> Instrument:
    return _kept(Instrument(f"taskpilot_{name}_total", Kind.COUNTER, text, _known(labels), scale))


def _histogram(name: str, text: str, buckets: tuple[float, ...], **labels: Iterable[str]) -> Instrument:
    return _kept(Instrument(f"taskpilot_{name}_seconds", Kind.HISTOGRAM, text, _known(labels), _MICROS, buckets))


def _gauge(
    name: str,
    text: str,
    *,
    scale: int = 1,
    column: str = "",
    fact: str = "",
    may_lapse: bool = False,
    per_job: bool = True,
    **labels: Iterable[str],
) -> Instrument:
    return _kept(
        Instrument(
            f"taskpilot_{name}",
            Kind.GAUGE,
            text,
            _known(labels),
            scale,
            column=column,
            fact=fact,
            may_lapse=may_lapse,
            per_job=per_job,
        )
    )


FIRES = _counter("fires", "What became of the job's fires?", outcome=(one for one in FireOutcome if one is not FireOutcome.BUFFERED))
RUNS = _counter("runs", "How did the job's runs end?", status=(one for one in RunStatus if one not in OPEN))
ATTEMPTS = _counter("attempts", "How often was a run's process started?")
AGENT_INVOCATIONS = _counter(
    "agent_invocations", "How often was each agent at work, and how did that end?", agent=_ANY, status=("succeeded", "failed")
)
LLM_CALLS = _counter(
    "llm_calls", "How many LLM calls were begun, and how did they end?", model=_ANY, status=("succeeded", "failed", "unknown")
)
LLM_RETRIES = _counter(
    "llm_retries",
    "How often was a call to a model tried again, and why?",
    model=_ANY,
    reason=("rate_limit", "conflict", "timeout", "server_error", "connection", "unsupported"),
)
LLM_TOKENS = _counter(
    "llm_tokens",
    "How many tokens did the servers report? `input` includes `cached_input`.",
    model=_ANY,
    agent=_ANY,
    kind=_TOKEN_KINDS,
)
LLM_COST = _counter("llm_cost_usd", "What did the priced calls cost, in USD?", model=_ANY, agent=_ANY, scale=_NANO)
LLM_UNPRICED = _counter("llm_unpriced_calls", "How many calls had no known price?", model=_ANY)
TOOL_CALLS = _counter(
    "tool_calls",
    "How many tool calls were asked for, and how did they end?",
    tool=_ANY,
    status=("succeeded", "failed", "denied", "unknown"),
)
TASKS = _counter("tasks", "How many tasks came into each state?", status=TaskStatus)
POLICY_DECISIONS = _counter("policy_decisions", "What did the policy say?", engine=("regorus",), decision=Verdict)
APPROVALS = _counter("approvals", "What did people answer when they were asked?", verdict=("approved", "rejected", "expired"))
FEEDBACK = _counter("feedback", "Did people confirm that a run's result was right?", verdict=FeedbackVerdict)
BUDGET_STOPS = _counter("budget_stops", "How often did a budget stop a run?", scope=("run",))
TELEMETRY_FAILURES = _counter(
    "telemetry_failures",
    "How often could a signal not be delivered?",
    sink=("gateway", "collector", "traces", "metrics_file", "logs", "decision_log"),
)
NOTICES = _counter("notices", "How often was a notice sent, and did it arrive?", channel=_ANY, result=("delivered", "failed", "unknown"))

RUN_DURATION = _histogram("run_duration", "How long were runs active?", _LONG)
FIRE_LATENESS = _histogram("fire_lateness", "How long after its scheduled time did a fire start?", _LONG)
AGENT_DURATION = _histogram("agent_duration", "How long did one invocation of an agent take?", _SHORT, agent=_ANY)
LLM_CALL_DURATION = _histogram("llm_call_duration", "How long did one LLM call take, retries included?", _SHORT, model=_ANY)

LAST_SCHEDULED = _gauge(
    "run_last_scheduled_timestamp_seconds",
    "For when was the last fire that started scheduled?",
    column="last_scheduled",
    scale=_MICROS,
)
LAST_START = _gauge("run_last_start_timestamp_seconds", "When did the last run start?", column="last_start", scale=_MICROS)
LAST_COMPLETION = _gauge("run_last_completion_timestamp_seconds", "When did a run end last?", column="last_completion", scale=_MICROS)
LAST_SUCCESS = _gauge("run_last_success_timestamp_seconds", "When did a run succeed last?", column="last_success", scale=_MICROS)
LAST_DURATION = _gauge("run_last_duration_seconds", "How long was the last ended run active?", column="last_duration_micros", scale=_MICROS)
LAST_STATUS = _gauge(
    "run_last_status",
    "Which status has the last run that ended or parked? 1 for that one.",
    status=(one for one in RunStatus if one not in (RunStatus.QUEUED, RunStatus.RUNNING)),
)
LAST_EXIT_CODE = _gauge("run_last_exit_code", "Which exit code had the last run that ended or parked?", column="last_exit_code")
LAST_COST = _gauge(
    "run_last_cost_usd",
    "What did the last ended run cost? Absent where a call was unpriced.",
    column="last_cost_nano",
    scale=_NANO,
    may_lapse=True,
)
LAST_TOKENS = _gauge("run_last_tokens", "How many tokens did the last ended run use?", column="last_{kind}_tokens", kind=_TOKEN_KINDS)
LAST_BUDGET_USED = _gauge(
    "run_last_budget_used_ratio",
    "How much of its tightest ceiling did the last ended run use?",
    column="last_budget_used_micros",
    scale=_MICROS,
    may_lapse=True,
)
MAX_SUCCESS_GAP = _gauge(
    "job_max_success_gap_seconds",
    "How old may the last success be before somebody should look?",
    fact="max_success_gap_micros",
    scale=_MICROS,
    may_lapse=True,
)
DEADLINE = _gauge("job_deadline_seconds", "How long may a run be active?", fact="deadline_micros", scale=_MICROS)
NEXT_FIRE = _gauge("job_next_fire_timestamp_seconds", "When is the job due next?", fact="next_fire", scale=_MICROS, may_lapse=True)
PAUSED = _gauge("job_paused", "Is the job paused?")
APPROVALS_PENDING = _gauge("approvals_pending", "How many approvals and reviews wait for a person?")
STORE_INFO = _gauge("store_info", "Which store fills this group?", store_id=_ANY)

BUILD_INFO = _gauge("build_info", "Which TaskPilot wrote this?", version=_ANY, python=_ANY, per_job=False)
LAST_TICK = _gauge("scheduler_last_tick_timestamp_seconds", "When was a scheduler awake last?", scale=_MICROS, per_job=False)
RUNNING = _gauge("scheduler_running_runs", "How many runs are running?", per_job=False)
QUEUED = _gauge("scheduler_queued_runs", "How many fires and runs wait for a place to start?", per_job=False)

COUNTERS: Final = tuple(one for one in _every if one.kind is Kind.COUNTER)
HISTOGRAMS: Final = tuple(one for one in _every if one.kind is Kind.HISTOGRAM)
GAUGES: Final = tuple(one for one in _every if one.kind is Kind.GAUGE and one.per_job)
DEPLOYMENT_GAUGES: Final = tuple(one for one in _every if one.kind is Kind.GAUGE and not one.per_job)
