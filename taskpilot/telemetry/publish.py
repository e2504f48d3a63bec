"""What the supervisor does for telemetry when a run's processes are gone: all of it quiet, all of it within half a second."""

from collections.abc import Callable, Mapping, Sequence
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
from taskpilot.store.database import Store, Transaction
from taskpilot.store.trace_queries import mark_traces_delivered, put_off_traces
from taskpilot.telemetry.gateway import Gateway
from taskpilot.telemetry.metrics import JobFacts
from taskpilot.telemetry.metrics_file import write_metrics_file
from taskpilot.telemetry.traces.collector import PROBE_SECONDS, Collector, ExportResult, Reply, Send, is_there, sender
from taskpilot.telemetry.traces.content import Content
from taskpilot.telemetry.traces.delivery import CLAIM
from taskpilot.telemetry.traces.file import Written, write_pending_traces

TOTAL_SECONDS: Final = 0.5
"""All sinks and all waits for locks together."""
_LOCAL_SHARE: Final = 0.6
"""Of the total, for the probe of the collector and the locks of the two local files; the gateway and the collector get the rest."""
_RECORD_SHARE: Final = 0.2
"""Of the total, kept back for writing down what came of it."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Where telemetry goes."""

    state_dir: Path
    gateway_url: str | None = None
    """None: no push."""
    collector: Collector | None = None
    """None: traces.jsonl only."""
    resource: Mapping[str, str] = field(default_factory=dict)
    """What the spans say of who sent them, besides the store: service.name and others."""
    content: Content | None = None
    """None: no prompt, reply, argument or result is in the spans."""

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
    """Writes traces.jsonl and metrics.json, sends the new spans to the collector and pushes the job's totals, then what other jobs owe.

    `run_id` None: only the job's ledger changed (a skip, an approval). Waits of all kinds take at most `total_seconds` together; imports
    come on top, dead or alive. Never raises and prints nothing: what could not be delivered is counted, and pending where it can be.
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
    _warm_up(targets)
    # What is sent below is not to be sent by somebody else meanwhile.
    due_at = None if targets.collector is None else now() + CLAIM if send is not None else now()
    written = _write_files(store, targets, run_id, failed, waits, now, due_at)
    deadline = Deadline(total * (1 - _RECORD_SHARE) - waits.spent)
    export = None
    if send is not None and written.spans:
        export = TimedCall(partial(send, written.spans, deadline.left))
    if targets.gateway_url is not None:
        with suppress(Exception):
            Gateway(store, targets.gateway_url, targets.state_dir, now).push_pending(describe, seconds=deadline.left, first=facts)
    reply = None
    if export is not None:
        reply = (export.wait(deadline.left) and export.value) or Reply(ExportResult.UNKNOWN)
        if reply.word is not ExportResult.TAKEN or reply.rejected:
            failed.add("collector")
    if reply is None and not failed:
        return
    with store.write() as connection:
        if reply is not None:
            _note(connection, written.attempts, reply.word, now())
        totals.add(connection, facts.name, [totals.count(TELEMETRY_FAILURES, sink=sink) for sink in sorted(failed)])


def _note(connection: Transaction, attempts: Sequence[str], word: ExportResult, now: datetime) -> None:
    """What became of the spans of these attempts. Without an answer they are pending when the claim ends: they may land yet."""
    if word in (ExportResult.TAKEN, ExportResult.REFUSED):
        mark_traces_delivered(connection, attempts)
    elif word is ExportResult.AWAY:
        put_off_traces(connection, attempts, now)


def _write_files(
    store: Store,
    targets: Targets,
    run_id: str | None,
    failed: set[str],
    waits: WaitBudget,
    now: Callable[[], datetime],
    due_at: datetime | None,
) -> Written:
    """The spans that were written."""
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


def _warm_up(targets: Targets) -> None:
    """Imports before the clock runs: they cost the same, whether anybody listens or not."""
    for name in ("http.client", "prometheus_client") if targets.gateway_url is not None else ():
        with suppress(Exception):
            import_module(name)
