"""What the configuration says of a job, as far as its metrics need it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Final

from taskpilot.domain import instruments
from taskpilot.domain.decisions import Verdict
from taskpilot.domain.instruments import Instrument, Kind
from taskpilot.domain.runs import OPEN, FeedbackVerdict, FireOutcome, RunStatus
from taskpilot.domain.tasks import TaskStatus


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job as configured: its known label values, of which zeros are exported, and its limits."""

    name: str
    model: str | None = None
    tools: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    deadline_micros: int | None = None
    max_success_gap_micros: int | None = None
    next_fire: datetime | None = None
    configured: bool = True
    """False: only the job's name is known (its file is broken, or was not read); what was exported of its limits stays."""


LAST_STATUSES: Final = tuple(status.value for status in RunStatus if status not in (RunStatus.QUEUED, RunStatus.RUNNING))
"""How a run that ended or parked may stand."""

_ENDED: Final = tuple(status.value for status in RunStatus if status not in OPEN)
_FIXED: Final = {
    (instruments.FIRES.name, "outcome"): tuple(outcome.value for outcome in FireOutcome if outcome is not FireOutcome.BUFFERED),
    (instruments.RUNS.name, "status"): _ENDED,
    (instruments.AGENT_INVOCATIONS.name, "status"): ("succeeded", "failed"),
    (instruments.LLM_CALLS.name, "status"): ("succeeded", "failed", "unknown"),
    (instruments.LLM_RETRIES.name, "reason"): ("rate_limit", "conflict", "timeout", "server_error", "connection", "unsupported"),
    (instruments.LLM_TOKENS.name, "kind"): ("input", "cached_input", "output"),
    (instruments.TOOL_CALLS.name, "status"): ("succeeded", "failed", "denied", "unknown"),
    (instruments.TASKS.name, "status"): tuple(status.value for status in TaskStatus),
    (instruments.POLICY_DECISIONS.name, "engine"): ("regorus",),
    (instruments.POLICY_DECISIONS.name, "decision"): tuple(verdict.value for verdict in Verdict),
    (instruments.APPROVALS.name, "verdict"): ("approved", "rejected"),
    (instruments.FEEDBACK.name, "verdict"): tuple(verdict.value for verdict in FeedbackVerdict),
    (instruments.BUDGET_STOPS.name, "scope"): ("run",),
    (instruments.TELEMETRY_FAILURES.name, "sink"): ("gateway", "collector", "traces", "metrics_file", "logs", "decision_log"),
}


def known_label_sets(instrument: Instrument, facts: JobFacts | None) -> Iterator[tuple[str, ...]]:
    """Label values in the order of the instrument's labels; none of a gauge, and of a job whose configuration is not known."""
    if facts is None or not facts.configured or instrument.kind is Kind.GAUGE:
        return iter(())
    own = {"model": (facts.model,) if facts.model else (), "tool": facts.tools, "agent": facts.agents}
    return product(*(_FIXED.get((instrument.name, label)) or own.get(label, ()) for label in instrument.labels))
