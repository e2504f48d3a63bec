"""Checks of the gateway, the collector and the model by what the store recorded of them; none of them is asked."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from taskpilot.config import Settings
from taskpilot.domain.chat import OFFLINE
from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.steps import StepStatus
from taskpilot.store.database import Transaction
from taskpilot.store.health_queries import last_model_call, pending_groups, telemetry_failures
from taskpilot.store.metrics_queries import LATE_PUSH
from taskpilot.store.trace_queries import runs_with_undelivered_traces

_PATIENCE: Final = timedelta(minutes=5)
"""A group that is pending for longer waits for nobody's next run any more."""
_RECENT: Final = timedelta(days=1)
"""An older answer of a model says nothing of today."""


class Status(StrEnum):
    """What is known of a part of the deployment."""

    PASS = "pass"  # noqa: S105  no password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """Nothing is recorded that would tell."""
    OFF = "off"
    """Not configured."""


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the deployment."""

    status: Status
    detail: str


def check_gateway(connection: Transaction, settings: Settings, now: datetime) -> Check:
    """By the groups that are pending."""
    if settings.pushgateway_url is None:
        return Check(Status.OFF, "no Pushgateway is configured")
    pending = pending_groups(connection, now, late=LATE_PUSH)
    late = [one for one in pending if one.error is not None or one.since is None or one.since <= now - _PATIENCE]
    if late:
        error = next((f": {one.error}" for one in late if one.error), "")
        groups = "1 group is" if len(late) == 1 else f"{len(late)} groups are"
        return Check(Status.WARN, f"{groups} pending to the Pushgateway{error}; `taskpilot metrics push` tries again")
    return Check(Status.PASS, "up to date" if not pending else f"{len(pending)} changed just now and not pushed yet")


def check_collector(connection: Transaction, settings: Settings) -> Check:
    """By the runs whose spans it has not received. No verdict: a machine without a collector keeps them pending forever."""
    if not settings.otel_enabled:
        return Check(Status.OFF, "OTEL_ENABLED is false: spans are in traces.jsonl only")
    failed = telemetry_failures(connection, TELEMETRY_FAILURES.name).get("collector", 0)
    pending = runs_with_undelivered_traces(connection)
    fix = "; `taskpilot traces replay` delivers them" if pending else ""
    runs = "1 run" if pending == 1 else f"{pending:,} runs"
    return Check(Status.UNKNOWN, f"not asked; {failed:,} deliveries failed so far, the spans of {runs} are pending{fix}")


def check_model(connection: Transaction, now: datetime) -> Check:
    """By the newest call that has an end."""
    call = last_model_call(connection)
    if call is None or call.ended_at < now - _RECENT:
        return Check(Status.UNKNOWN, "no model was asked in the last day")
    if call.model == OFFLINE:
        return Check(Status.UNKNOWN, "only the built-in offline rules were asked")
    at = call.ended_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    if call.status in (StepStatus.FAILED, StepStatus.UNKNOWN):
        return Check(Status.WARN, f"the last call to {call.model}, at {at}, gave no answer: {call.error or 'its process ended'}")
    return Check(Status.PASS, f"{call.model} answered at {at}")
