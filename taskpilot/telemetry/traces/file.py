"""traces.jsonl: one line of OTLP JSON for each batch, which any collector reads; rotated, written by one process at a time."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from taskpilot.domain.times import utc_now
from taskpilot.files import WaitBudget, file_lock
from taskpilot.store.database import Store
from taskpilot.store.trace_queries import RunRecord, mark_traces_written, record_to_write, runs_with_pending_traces
from taskpilot.telemetry.log_files import append_whole
from taskpilot.telemetry.traces.content import Content
from taskpilot.telemetry.traces.span import Span, batches, otlp_json
from taskpilot.telemetry.traces.spans import resource_of, spans_of

FILE: Final = "traces.jsonl"
FILE_BYTES: Final = 64 * 1024 * 1024
"""A file that would grow beyond this becomes `traces.jsonl.1`: about 80,000 spans."""
OLD_FILES: Final = 3
"""`traces.jsonl.1` is the newest; the oldest one is deleted. The store knows what is still to be sent to a collector."""
BATCH: Final = 512
"""Spans in one line, and in one request to a collector: about 400 kB."""
ROWS_MAX: Final = 20_000
"""Steps, agents or decisions of one run that become spans; a larger journal is cut, and its root span holds the number of rows left out."""
_RUNS_MAX: Final = 20
"""How many other runs' pending spans one process writes."""


@dataclass
class Written:
    """The spans that were written, for sending them to a collector, their attempts, and whether something could not be written."""

    spans: list[Span] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    failed: bool = False


def write_pending_traces(
    store: Store,
    state_dir: Path,
    *,
    run_id: str | None = None,
    resource: Mapping[str, str] | None = None,
    content: Content | None = None,
    due_at: datetime | None = None,
    waits: WaitBudget | None = None,
    file_bytes: int = FILE_BYTES,
    now: Callable[[], datetime] = utc_now,
) -> Written:
    """Appends the spans of ended attempts that have none yet: of `run_id` first, then of others. Never raises.

    `resource` adds attributes to the store's. From `due_at` on another process may send the spans to the collector; None: no process
    sends them. What could not be written stays pending.
    """
    written = Written()
    try:
        with file_lock(state_dir / "locks" / "traces.lock", waits or WaitBudget(1.0)) as got:
            if not got:
                return Written(failed=True)
            for one in _wanted(store, run_id):
                try:
                    with store.read() as connection:
                        record = record_to_write(connection, one, rows_max=ROWS_MAX, content=content is not None)
                    if record is None:
                        continue
                    spans, lines = _rendered(record, resource_of(store.deployment, store.store_id, resource or {}), content)
                    written.failed = written.failed or not spans
                    append_whole(state_dir / FILE, lines.encode(), limit_bytes=file_bytes, kept=OLD_FILES)
                    attempts = [row.id for row in record.attempts]
                    with store.write() as connection:
                        mark_traces_written(connection, attempts, now(), due_at=due_at if spans else None)
                    written.spans += spans
                    written.attempts += attempts
                except Exception:
                    written.failed = True
    except Exception:
        written.failed = True
    return written


def _wanted(store: Store, run_id: str | None) -> list[str]:
    with store.read() as connection:
        pending = runs_with_pending_traces(connection, limit=_RUNS_MAX)
    return list(dict.fromkeys([*([run_id] if run_id else []), *pending]))


def _rendered(record: RunRecord, resource: Mapping[str, str], content: Content | None) -> tuple[list[Span], str]:
    """The spans and their lines; none where the rows are broken: they would fail again at each later run."""
    try:
        spans = spans_of(record, resource, rows_max=ROWS_MAX, content=content)
        return spans, "".join(_line(batch) for batch in batches(spans, BATCH))
    except (ValueError, TypeError, OverflowError):
        return [], ""


def _line(batch: Sequence[Span]) -> str:
    return json.dumps(otlp_json(batch), separators=(",", ":")) + "\n"
