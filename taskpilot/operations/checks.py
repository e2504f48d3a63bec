"""What the record says of everything around us: the gateway, the collector and the model are judged by what came of them, not asked."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from taskpilot.domain.chat import OFFLINE
from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.steps import StepStatus
from taskpilot.settings import Settings
from taskpilot.store.database import Transaction
from taskpilot.store.health_queries import last_model_call, owed_groups, telemetry_failures
from taskpilot.store.metrics_queries import LATE_PUSH
from taskpilot.store.trace_queries import runs_with_undelivered_traces

_PATIENCE: Final = timedelta(minutes=5)
"""A group that is owed for longer waits for nobody's next run any more."""
_RECENT: Final = timedelta(days=1)
"""An older answer of a model says nothing of today."""


class Status(StrEnum):
    """What is known of a part of the house."""

    PASS = "pass"  # noqa: S105  no password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """Nothing is recorded that would tell."""
    OFF = "off"
    """Not configured, so that there is nothing to be well or ill."""


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the house."""

    status: Status
    detail: str


def check_gateway(connection: Transaction, settings: Settings, now: datetime) -> Check:
    """By the groups that are owed."""
    if settings.pushgateway_url is None:
        return Check(Status.OFF, "no Pushgateway is set: nothing is pushed")
    owed = owed_groups(connection, now, late=LATE_PUSH)
    late = [one for one in owed if one.error is not None or one.since is None or one.since <= now - _PATIENCE]
    if late:
        error = next((f": {one.error}" for one in late if one.error), "")
        groups = "1 group is" if len(late) == 1 else f"{len(late)} groups are"
        return Check(Status.WARN, f"{groups} owed to the Pushgateway{error}; `taskpilot metrics push` tries again")
    return Check(Status.PASS, "it holds what the record says" if not owed else f"{len(owed)} just changed, and not pushed yet")


def check_collector(connection: Transaction, settings: Settings) -> Check:
    """By the runs whose spans it has not got. It stands behind no result, and on a machine without one they wait for ever: no verdict."""
    if not settings.otel_enabled:
        return Check(Status.OFF, "OTEL_ENABLED is false: spans are in traces.jsonl only")
    failed = telemetry_failures(connection, TELEMETRY_FAILURES.name).get("collector", 0)
    owed = runs_with_undelivered_traces(connection)
    mend = "; `taskpilot traces replay` delivers them" if owed else ""
    runs = "1 run is" if owed == 1 else f"{owed:,} runs are"
    return Check(Status.UNKNOWN, f"not asked; {failed:,} deliveries failed so far, the spans of {runs} owed{mend}")


def check_model(connection: Transaction, now: datetime) -> Check:
    """By the newest call that has an end."""
    call = last_model_call(connection)
    if call is None or call.ended_at < now - _RECENT:
        return Check(Status.UNKNOWN, "no model was asked in the last day")
    if call.model == OFFLINE:
        return Check(Status.UNKNOWN, "only the embedded offline rules were asked")
    at = call.ended_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    if call.status in (StepStatus.FAILED, StepStatus.UNKNOWN):
        return Check(Status.WARN, f"the last call to {call.model}, at {at}, gave no answer: {call.error or 'its process ended'}")
    return Check(Status.PASS, f"{call.model} answered at {at}")
