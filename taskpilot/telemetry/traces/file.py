"""traces.jsonl: one OTLP JSON line a batch, which any collector takes; rotated, written by one process at a time."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from taskpilot.domain.times import utc_now
from taskpilot.store.database import Store
from taskpilot.store.trace_queries import RunRecord, mark_traces_written, record_to_write, runs_with_pending_traces
from taskpilot.telemetry.locks import WaitBudget, file_lock
from taskpilot.telemetry.traces.content import Content
from taskpilot.telemetry.traces.span import Span, batches, otlp_json
from taskpilot.telemetry.traces.spans import resource_of, spans_of

FILE: Final = "traces.jsonl"
FILE_BYTES: Final = 64 * 1024 * 1024
"""A file that would grow beyond this becomes `traces.jsonl.1`: about 80,000 spans."""
OLD_FILES: Final = 3
"""`traces.jsonl.1` is the newest of them; the oldest one goes. What is still to be sent to a collector is known from the record."""
BATCH: Final = 512
"""Spans a line, and a request to a collector: about 400 kB."""
ROWS_MAX: Final = 20_000
"""Steps, agents or decisions of one run that become spans; a larger journal is cut, and its root span says so."""
_RUNS_MAX: Final = 20
"""Runs of others whose pending spans one process writes."""


@dataclass
class Written:
    """What was appended: the spans, for a collector to get them too, of which attempts, and whether anything could not be written."""

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

    `resource` says who they come from, besides the store. From `due_at` on somebody else may deliver them to the collector; None: nobody is
    to get them. What could not be written stays pending.
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
                    _append(state_dir / FILE, lines.encode(), file_bytes)
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
    """The spans and their lines; none of a record that gives none: it gives none later either, and is not tried at each run for ever."""
    try:
        spans = spans_of(record, resource, rows_max=ROWS_MAX, content=content)
        return spans, "".join(_line(batch) for batch in batches(spans, BATCH))
    except (ValueError, TypeError, OverflowError):
        return [], ""


def _line(batch: Sequence[Span]) -> str:
    return json.dumps(otlp_json(batch), separators=(",", ":")) + "\n"


def _append(path: Path, data: bytes, file_bytes: int) -> None:
    """All of it or nothing: the writer's lock is held, so what a full disk cut can be taken back."""
    with suppress(FileNotFoundError):
        if path.lstat().st_size > max(file_bytes - len(data), 0):
            _rotate(path)
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


def _rotate(path: Path) -> None:
    """Each file gets the next number, the oldest one goes."""
    files = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, OLD_FILES + 1))]
    for number in range(OLD_FILES, 0, -1):
        with suppress(FileNotFoundError):
            files[number - 1].replace(files[number])
