"""Every metric on one page: name, kind, labels, unit and the question that it answers."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. The store keeps whole numbers; `scale` of them make one of the exported unit."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    scale: int = 1
    buckets: tuple[float, ...] = ()
    """Upper bounds in the exported unit, without +Inf."""


_MICROS: Final = 1_000_000
_NANO: Final = 1_000_000_000
_SHORT: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_LONG: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)


def _counter(name: str, text: str, *labels: str, scale: int = 1) -> Instrument:
    return Instrument(f"taskpilot_{name}_total", Kind.COUNTER, text, labels, scale)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Instrument:
    return Instrument(f"taskpilot_{name}_seconds", Kind.HISTOGRAM, text, labels, _MICROS, buckets)


def _gauge(name: str, text: str, *labels: str, scale: int = 1) -> Instrument:
    return Instrument(f"taskpilot_{name}", Kind.GAUGE, text, labels, scale)


FIRES = _counter("fires", "What became of the job's fires?", "outcome")
RUNS = _counter("runs", "How did the job's runs end?", "status")
ATTEMPTS = _counter("attempts", "How often was a run's process started?")
AGENT_INVOCATIONS = _counter("agent_invocations", "How often was each agent at work, and how did that end?", "agent", "status")
LLM_CALLS = _counter("llm_calls", "How many LLM calls were begun, and how did they end?", "model", "status")
LLM_RETRIES = _counter("llm_retries", "How often was a call to a model tried again, and why?", "model", "reason")
LLM_TOKENS = _counter("llm_tokens", "How many tokens did the servers report? `input` includes `cached_input`.", "model", "agent", "kind")
LLM_COST = _counter("llm_cost_usd", "What did the priced calls cost, in USD?", "model", "agent", scale=_NANO)
LLM_UNPRICED = _counter("llm_unpriced_calls", "How many calls had no known price?", "model")
TOOL_CALLS = _counter("tool_calls", "How many tool calls were asked for, and how did they end?", "tool", "status")
TASKS = _counter("tasks", "How many tasks came into each state?", "status")
POLICY_DECISIONS = _counter("policy_decisions", "What did the policy say?", "engine", "decision")
APPROVALS = _counter("approvals", "What did people answer when they were asked?", "verdict")
FEEDBACK = _counter("feedback", "Did people confirm that a run's result was right?", "verdict")
BUDGET_STOPS = _counter("budget_stops", "How often did a budget stop a run?", "scope")
TELEMETRY_FAILURES = _counter("telemetry_failures", "How often could a signal not be delivered?", "sink")

RUN_DURATION = _histogram("run_duration", "How long were runs active?", _LONG)
FIRE_LATENESS = _histogram("fire_lateness", "How long after its scheduled time did a fire start?", _LONG)
AGENT_DURATION = _histogram("agent_duration", "How long did one invocation of an agent take?", _SHORT, "agent")
LLM_CALL_DURATION = _histogram("llm_call_duration", "How long did one LLM call take, retries included?", _SHORT, "model")

LAST_SCHEDULED = _gauge("run_last_scheduled_timestamp_seconds", "For when was the last fire that started scheduled?", scale=_MICROS)
LAST_START = _gauge("run_last_start_timestamp_seconds", "When did the last run start?", scale=_MICROS)
LAST_COMPLETION = _gauge("run_last_completion_timestamp_seconds", "When did a run end last?", scale=_MICROS)
LAST_SUCCESS = _gauge("run_last_success_timestamp_seconds", "When did a run succeed last?", scale=_MICROS)
LAST_DURATION = _gauge("run_last_duration_seconds", "How long was the last ended run active?", scale=_MICROS)
LAST_STATUS = _gauge("run_last_status", "How did the last run that ended or parked stand? 1 for its status.", "status")
LAST_EXIT_CODE = _gauge("run_last_exit_code", "Which exit code had the last run that ended or parked?")
LAST_COST = _gauge("run_last_cost_usd", "What did the last ended run cost? Absent where a call was unpriced.", scale=_NANO)
LAST_TOKENS = _gauge("run_last_tokens", "How many tokens did the last ended run use?", "kind")
LAST_BUDGET_USED = _gauge("run_last_budget_used_ratio", "How much of its tightest ceiling did the last ended run use?", scale=_MICROS)
MAX_SUCCESS_GAP = _gauge("job_max_success_gap_seconds", "How old may the last success be before somebody should look?", scale=_MICROS)
DEADLINE = _gauge("job_deadline_seconds", "How long may a run be active?", scale=_MICROS)
NEXT_FIRE = _gauge("job_next_fire_timestamp_seconds", "When is the job due next?", scale=_MICROS)
PAUSED = _gauge("job_paused", "Is the job paused?")
APPROVALS_PENDING = _gauge("approvals_pending", "How many approvals and reviews wait for a person?")
STORE_INFO = _gauge("store_info", "Which store fills this group?", "store_id")

COUNTERS: Final = (
    FIRES, RUNS, ATTEMPTS, AGENT_INVOCATIONS, LLM_CALLS, LLM_RETRIES, LLM_TOKENS, LLM_COST, LLM_UNPRICED, TOOL_CALLS,
    TASKS, POLICY_DECISIONS, APPROVALS, FEEDBACK, BUDGET_STOPS, TELEMETRY_FAILURES,
)  # fmt: skip
HISTOGRAMS: Final = (RUN_DURATION, FIRE_LATENESS, AGENT_DURATION, LLM_CALL_DURATION)
GAUGES: Final = (
    LAST_SCHEDULED, LAST_START, LAST_COMPLETION, LAST_SUCCESS, LAST_DURATION, LAST_STATUS, LAST_EXIT_CODE, LAST_COST,
    LAST_TOKENS, LAST_BUDGET_USED, MAX_SUCCESS_GAP, DEADLINE, NEXT_FIRE, PAUSED, APPROVALS_PENDING, STORE_INFO,
)  # fmt: skip
