"""traces.jsonl: one OTLP JSON line a batch, replayable into a collector."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from taskpilot.domain.moments import utc_now
from taskpilot.signals.locks import Waits, held
from taskpilot.signals.traces.span import Span, otlp_json
from taskpilot.signals.traces.spans import batches, resource_of, spans_of
from taskpilot.store.database import Store
from taskpilot.store.trace_queries import mark_traces_written, record_of, runs_with_owed_traces

FILE: Final = "traces.jsonl"
BATCH: Final = 512
"""Spans a line, and a request to a collector: about 400 kB."""
ROWS_MAX: Final = 20_000
"""Steps, agents or decisions of one run that become spans; a larger journal is cut, and its root span says so."""
_RUNS_MAX: Final = 20
"""Runs of others whose owed spans one process writes."""


@dataclass
class Written:
    """What was appended: the spans, for a collector to get them too, and whether anything could not be written."""

    spans: list[Span] = field(default_factory=list)
    failed: bool = False


def write_owed_traces(
    store: Store,
    state_dir: Path,
    *,
    run_id: str | None = None,
    resource: Mapping[str, str] | None = None,
    waits: Waits | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Written:
    """Appends the spans of ended attempts that have none yet: of `run_id` first, then of others. Never raises.

    `resource` says who they come from, besides the store. What could not be written stays owed.
    """
    written = Written()
    try:
        with held(state_dir / "locks" / "traces.lock", waits or Waits(1.0)) as got:
            if not got:
                return Written(failed=True)
            for one in _wanted(store, run_id):
                try:
                    _write_run(store, state_dir / FILE, one, resource or {}, written, now)
                except Exception:
                    written.failed = True
    except Exception:
        written.failed = True
    return written


def _wanted(store: Store, run_id: str | None) -> list[str]:
    with store.read() as connection:
        owed = runs_with_owed_traces(connection, limit=_RUNS_MAX)
    return list(dict.fromkeys([*([run_id] if run_id else []), *owed]))


def _write_run(store: Store, path: Path, run_id: str, resource: Mapping[str, str], written: Written, now: Callable[[], datetime]) -> None:
    with store.read() as connection:
        record = record_of(connection, run_id, rows_max=ROWS_MAX)
    if record is None:
        return
    try:
        spans = spans_of(record, resource_of(store.deployment, store.store_id, resource), rows_max=ROWS_MAX)
        lines = [_line(batch) for batch in batches(spans, BATCH)]
    except (ValueError, TypeError, OverflowError):
        # A record that gives no spans now gives none later: it is left behind, not tried at each run for ever.
        spans, lines = [], []
        written.failed = True
    _append(path, "".join(lines).encode())
    with store.write() as connection:
        mark_traces_written(connection, [row.id for row in record.attempts], now())
    written.spans += spans


def _line(batch: Sequence[Span]) -> str:
    return json.dumps(otlp_json(batch), separators=(",", ":")) + "\n"


def _append(path: Path, data: bytes) -> None:
    """All of it or nothing: the writer's lock is held, so what a full disk cut can be taken back."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        done = 0
        try:
            while done < len(data):
                done += os.write(descriptor, data[done:])
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
