"""Publishes a change of a job: files, gateway and collector together within half a second, without output or exceptions."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final, Self

from taskpilot.config import Settings
from taskpilot.config.secrets import secrets_of
from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.times import utc_now
from taskpilot.files import WaitBudget
from taskpilot.http import Deadline, TimedCall
from taskpilot.store import totals
from taskpilot.store.database import Store
from taskpilot.telemetry.gateway import Gateway
from taskpilot.telemetry.metrics import JobFacts
from taskpilot.telemetry.metrics_file import write_metrics_file
from taskpilot.telemetry.redaction import Redactor
from taskpilot.telemetry.traces.collector import PROBE_SECONDS, Collector, ExportResult, Reply, Send, is_there, sender
from taskpilot.telemetry.traces.content import Content
from taskpilot.telemetry.traces.delivery import CLAIM, record_export
from taskpilot.telemetry.traces.file import Written, write_pending_traces

TOTAL_SECONDS: Final = 0.5
"""All sinks and all waits for locks together."""
_LOCAL_SHARE: Final = 0.6
"""Of the total, for the probe of the collector and the locks of the two local files; the gateway and the collector get the rest."""
_RECORD_SHARE: Final = 0.2
"""Of the total, reserved for recording the results."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Where telemetry is sent."""

    state_dir: Path
    gateway_url: str | None = None
    """None: no push."""
    collector: Collector | None = None
    """None: traces.jsonl only."""
    resource: Mapping[str, str] = field(default_factory=dict)
    """Further attributes of the spans' resource: service.name and others."""
    content: Content | None = None
    """None: no prompt, reply, argument or result is in the spans."""
    mask: Callable[[str], str] = Redactor().masked
    """Removes secrets from what the gateway answers."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As configured."""
        certificate = None if settings.otel_certificate is None else settings.root / settings.otel_certificate
        collector = Collector(settings.otel_traces_url, settings.otel_protocol, settings.otel_headers, certificate)
        return cls(
            settings.state_dir,
            settings.pushgateway_url,
            collector if settings.otel_enabled else None,
            settings.otel_resource,
            Content(secrets_of(settings)) if settings.otel_content else None,
            Redactor(secrets_of(settings)).masked,
        )


def publish(
    store: Store,
    targets: Targets,
    run_id: str | None,
    facts: JobFacts,
    *,
    describe: Callable[[str], JobFacts | None] = lambda _job: None,
    total_seconds: float = TOTAL_SECONDS,
    now: Callable[[], datetime] = utc_now,
) -> None:
    """Writes traces.jsonl and metrics.json, sends the new spans to the collector and pushes the job's totals, then other jobs'.

    `run_id` None: only the job's ledger changed (a skip, an approval). All waits together take at most `total_seconds`; imports are
    not counted. Never raises and prints nothing: what could not be delivered is counted, and stays pending where that is possible.
    """
    with suppress(Exception):
        _publish(store, targets, run_id, facts, describe, total_seconds, now)


def _publish(
    store: Store,
    targets: Targets,
    run_id: str | None,
    facts: JobFacts,
    describe: Callable[[str], JobFacts | None],
    total: float,
    now: Callable[[], datetime],
) -> None:
    waits = WaitBudget(total * _LOCAL_SHARE)
    send: Send | None = None
    failed: set[str] = set()
    if run_id is not None and targets.collector is not None:
        with waits.counted():
            there = is_there(targets.collector, seconds=min(PROBE_SECONDS, total / 5))
        if there:
            with suppress(Exception):
                send = sender(targets.collector)
        if send is None:
            failed.add("collector")
    _import_libraries(targets)
    # Until then no other process sends what is sent below.
    due_at = None if targets.collector is None else now() + CLAIM if send is not None else now()
    written = _write_files(store, targets, run_id, failed, waits, now, due_at)
    deadline = Deadline(total * (1 - _RECORD_SHARE) - waits.spent)
    export = None
    if send is not None and written.spans:
        export = TimedCall(partial(send, written.spans, deadline.left))
    if targets.gateway_url is not None:
        with suppress(Exception):
            Gateway(store, targets.gateway_url, targets.state_dir, now, targets.mask).push_pending(
                describe, seconds=deadline.left, first=facts
            )
    reply = None
    if export is not None:
        reply = (export.wait(deadline.left) and export.value) or Reply(ExportResult.UNKNOWN)
        if reply.result is not ExportResult.ACCEPTED or reply.rejected:
            failed.add("collector")
    if reply is None and not failed:
        return
    with store.write() as connection:
        if reply is not None:
            record_export(connection, written.attempts, reply.result, now())
        totals.add(connection, facts.name, [totals.count(TELEMETRY_FAILURES, sink=sink) for sink in sorted(failed)])


def _write_files(
    store: Store,
    targets: Targets,
    run_id: str | None,
    failed: set[str],
    waits: WaitBudget,
    now: Callable[[], datetime],
    due_at: datetime | None,
) -> Written:
    """Writes traces.jsonl and metrics.json; gives the spans that were written."""
    written = Written()
    if run_id is not None:
        written = write_pending_traces(
            store,
            targets.state_dir,
            run_id=run_id,
            resource=targets.resource,
            content=targets.content,
            due_at=due_at,
            waits=waits,
            now=now,
        )
        if written.failed:
            failed.add("traces")
    if not write_metrics_file(store, targets.state_dir, waits=waits, now=now):
        failed.add("metrics_file")
    return written


def _import_libraries(targets: Targets) -> None:
    """Imports before the deadline begins: they cost the same, whether a server answers or not."""
    for name in ("http.client", "prometheus_client") if targets.gateway_url is not None else ():
        with suppress(Exception):
            import_module(name)
