"""metrics.json in the state dir: the last values of every job, by run and in total."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from taskpilot.domain.instruments import COUNTERS, HISTOGRAMS
from taskpilot.domain.times import utc_now
from taskpilot.files import WaitBudget, atomic_write, file_lock
from taskpilot.messages.shapes import run_json
from taskpilot.store.database import Store
from taskpilot.store.metrics_queries import last_runs
from taskpilot.store.records import run_of
from taskpilot.telemetry.metrics import Snapshot, snapshot_of

FILE: Final = "metrics.json"

_SCALES: Final = {
    **{one.name: one.scale for one in COUNTERS},
    **{f"{one.name}_sum": one.scale for one in HISTOGRAMS},
    **{f"{one.name}_count": 1 for one in HISTOGRAMS},
}


def write_metrics_file(store: Store, state_dir: Path, *, waits: WaitBudget | None = None, now: Callable[[], datetime] = utc_now) -> bool:
    """Replaces metrics.json (0600) in one step. False, and the old file stays, where that fails."""
    path = state_dir / FILE
    # Under a lock, so that a process that read earlier does not replace the file later.
    with file_lock(state_dir / "locks" / "metrics-file.lock", waits or WaitBudget(1.0)) as got:
        if not got:
            return False
        try:
            text = json.dumps(_document(store, now()), indent=1, sort_keys=True, allow_nan=False) + "\n"
            atomic_write(path, text.encode())
        except Exception:
            return False
    return True


def _document(store: Store, at: datetime) -> dict[str, Any]:
    snapshot = snapshot_of(store)
    with store.read() as connection:
        last = last_runs(connection, snapshot.jobs)
    return {
        "updated_at": at.isoformat(),
        "deployment": store.deployment,
        "store_id": store.store_id,
        "jobs": {job: {"totals": _totals(snapshot, job), "last_run": _run(last.get(job))} for job in snapshot.jobs},
    }


def _totals(snapshot: Snapshot, job: str) -> dict[str, float]:
    values: dict[str, float] = {}
    for total in snapshot.totals:
        if total.job == job and (scale := _SCALES.get(total.metric)):
            labels = ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(total.labels.items()))
            values[f"{total.metric}{{{labels}}}" if labels else total.metric] = _exact(total.value, scale)
    return values


def _run(row: Any) -> dict[str, Any] | None:
    """The run without what may be large or private."""
    if row is None:
        return None
    return {name: value for name, value in run_json(run_of(row)).items() if name not in ("job", "parameters", "result")}


def _exact(value: int, scale: int) -> float:
    """The number in its unit; a float holds each nano-USD up to 9 million USD exactly."""
    return value if scale == 1 else value / scale
