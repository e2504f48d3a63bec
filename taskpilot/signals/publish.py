"""What the supervisor does for telemetry when a run's processes are gone: all of it quiet, all of it within half a second."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final, Self

from taskpilot.domain.instruments import TELEMETRY_FAILURES
from taskpilot.domain.moments import utc_now
from taskpilot.settings import Settings
from taskpilot.signals.bounded import Background
from taskpilot.signals.gateway import push_job, push_owed
from taskpilot.signals.job_facts import JobFacts
from taskpilot.signals.locks import Waits
from taskpilot.signals.metrics_file import write_metrics_file
from taskpilot.signals.traces.collector import PROBE_SECONDS, Collector, is_there, sender
from taskpilot.signals.traces.file import write_owed_traces
from taskpilot.signals.traces.span import Span
from taskpilot.store import totals
from taskpilot.store.database import Store

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

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As configured."""
        collector = Collector(settings.otel_traces_url, settings.otel_protocol, settings.otel_headers) if settings.otel_enabled else None
        return cls(settings.state_dir, settings.pushgateway_url, collector, settings.otel_resource)


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
    come on top, dead or alive. Never raises and prints nothing: what could not be delivered is counted, and owed where it can be.
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
    waits = Waits(total * _LOCAL_SHARE)
    send: Callable[[Sequence[Span], float], bool] | None = None
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
    spans = _write_files(store, targets, run_id, failed, waits, now)
    deadline = time.monotonic() + total * (1 - _RECORD_SHARE) - waits.spent
    export = None
    if send is not None and spans:
        export = Background(partial(send, spans, deadline - time.monotonic()))
    if targets.gateway_url is not None:
        with suppress(Exception):
            _push(store, targets.gateway_url, targets.state_dir, facts, describe, deadline, now)
    if export is not None and not (export.wait(deadline - time.monotonic()) and export.value):
        failed.add("collector")
    if failed:
        with store.write() as connection:
            totals.add(connection, facts.name, [totals.count(TELEMETRY_FAILURES, sink=sink) for sink in sorted(failed)])


def _write_files(
    store: Store, targets: Targets, run_id: str | None, failed: set[str], waits: Waits, now: Callable[[], datetime]
) -> list[Span]:
    """The spans that were written."""
    spans: list[Span] = []
    if run_id is not None:
        written = write_owed_traces(store, targets.state_dir, run_id=run_id, resource=targets.resource, waits=waits, now=now)
        spans = written.spans
        if written.failed:
            failed.add("traces")
    if not write_metrics_file(store, targets.state_dir, waits=waits, now=now):
        failed.add("metrics_file")
    return spans


def _push(
    store: Store,
    url: str,
    state_dir: Path,
    facts: JobFacts,
    describe: Callable[[str], JobFacts | None],
    deadline: float,
    now: Callable[[], datetime],
) -> None:
    result = push_job(store, facts, url, state_dir, seconds_left=deadline - time.monotonic(), now=now, only_if_owed=True)
    if result.delivered:
        left = deadline - time.monotonic()
        push_owed(store, url, state_dir, describe=describe, seconds_left=left, now=now, leave_out={facts.name})


def _warm_up(targets: Targets) -> None:
    """Imports before the clock runs: they cost the same, whether anybody listens or not."""
    for name in ("http.client", "prometheus_client") if targets.gateway_url is not None else ():
        with suppress(Exception):
            import_module(name)
