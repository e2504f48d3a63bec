"""What `taskpilot serve` prints: a line for each run that starts or ends, and for each fire that did not start."""

from datetime import datetime

from taskpilot.domain.fires import Fire
from taskpilot.domain.ids import short_id
from taskpilot.domain.reasons import Reason
from taskpilot.domain.runs import Run, RunStatus
from taskpilot.domain.times import utc_iso
from taskpilot.domain.usage import nano_to_usd
from taskpilot.messages.reasons import OUTCOMES, reason_line, status_line


def run_started(run: Run) -> str:
    """Like `triage started for 2026-11-24T06:00:00Z: run 7f732632`."""
    due = "" if run.scheduled_for is None else f" for {utc_iso(run.scheduled_for)}"
    return f"{run.job} started{due}: run {short_id(run.id)}"


def run_ended(run: Run) -> str:
    """Like `triage failed: ValueError: no inbox (run 7f732632, 12.4 s, 0.0020 USD)`; one that waits has no process either."""
    cost = "" if not run.spend.llm_calls or run.spend.cost_nano is None else f", {nano_to_usd(run.spend.cost_nano):.4f} USD"
    what = "succeeded" if run.status is RunStatus.SUCCEEDED else status_line(run.status, run.reason)
    return f"{run.job} {what} (run {short_id(run.id)}, {run.active_micros / 1_000_000:.1f} s{cost})"


def fire_not_started(fire: Fire) -> str:
    """Like `triage did not start for 2026-11-24T06:00:00Z: run 7f73... was active`."""
    return not_started(fire.job, fire.scheduled_for, fire.reason, OUTCOMES[fire.outcome])


def not_started(job: str, due: datetime | None, reason: Reason, otherwise: str) -> str:
    """The same for a fire or many, of which `due` is the last."""
    when = "" if due is None else f" for {utc_iso(due)}"
    return f"{job} did not start{when}: {reason_line(reason) or otherwise}"
