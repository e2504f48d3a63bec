"""Checks the gateway, the collector and the model by the records in the store, without contacting them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from taskpilot.config import Settings
from taskpilot.domain.chat import OFFLINE
from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.steps import StepStatus
from taskpilot.domain.times import utc_iso
from taskpilot.store.database import Transaction
from taskpilot.store.health_queries import last_model_call, pending_groups, telemetry_failures
from taskpilot.store.metrics_queries import LATE_PUSH
from taskpilot.store.trace_queries import runs_with_undelivered_traces

_PATIENCE: Final = timedelta(minutes=5)
"""A group that is pending for longer is reported; a shorter wait is normal."""
_RECENT: Final = timedelta(days=1)
"""An older answer of a model proves nothing about today."""


class Status(StrEnum):
    """The result of a check."""

    PASS = "pass"  # noqa: S105  no password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """The store has no record that shows it."""
    OFF = "off"
    """Not configured."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one part of the deployment."""

    status: Status
    detail: str


def check_gateway(connection: Transaction, settings: Settings, now: datetime) -> Check:
    """Warns of groups that are pending for too long."""
    if settings.pushgateway_url is None:
        return Check(Status.OFF, "no Pushgateway is configured")
    pending = pending_groups(connection, now, late=LATE_PUSH)
    late = [one for one in pending if one.error is not None or one.since is None or one.since <= now - _PATIENCE]
    if late:
        error = next((f": {one.error}" for one in late if one.error), "")
        groups = "1 job" if len(late) == 1 else f"{len(late)} jobs"
        return Check(Status.WARN, f"the metrics of {groups} are not pushed{error}; `taskpilot metrics push` tries again")
    return Check(Status.PASS, "up to date" if not pending else f"{len(pending)} changed just now and are not pushed yet")


def check_collector(connection: Transaction, settings: Settings) -> Check:
    """Counts the runs whose traces were not delivered. No verdict: on a machine without a collector they stay pending."""
    if not settings.otel_enabled:
        return Check(Status.OFF, "OTEL_ENABLED is false: traces are only in traces.jsonl")
    failed = telemetry_failures(connection, TELEMETRY_FAILURES.name).get("collector", 0)
    pending = runs_with_undelivered_traces(connection)
    fix = "; `taskpilot traces replay` sends them" if pending else ""
    runs, deliveries = ("1 run" if pending == 1 else f"{pending:,} runs"), ("1 delivery" if failed == 1 else f"{failed:,} deliveries")
    return Check(Status.UNKNOWN, f"not contacted; {deliveries} failed so far, the traces of {runs} are not sent yet{fix}")


def check_model(connection: Transaction, now: datetime) -> Check:
    """By the newest call that has ended."""
    call = last_model_call(connection)
    if call is None or call.ended_at < now - _RECENT:
        return Check(Status.UNKNOWN, "no model was called in the last day")
    if call.model == OFFLINE:
        return Check(Status.UNKNOWN, "the last call went to the built-in offline rules")
    at = utc_iso(call.ended_at, timespec="seconds")
    if call.status in (StepStatus.FAILED, StepStatus.UNKNOWN):
        return Check(Status.WARN, f"the last call to {call.model}, at {at}, failed: {call.error or 'its process ended'}")
    return Check(Status.PASS, f"{call.model} answered at {at}")
