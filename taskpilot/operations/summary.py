"""A run as the one JSON line and the few lines for people that a command prints."""

from taskpilot.domain.runs import RunSummary
from taskpilot.operations.runs import no_run
from taskpilot.operations.shapes import tokens_json, usd
from taskpilot.store import runs, tasks
from taskpilot.store.database import Store


def summarize(store: Store, run_id: str) -> RunSummary:
    """What the record says of a run. Raises NotFound."""
    with store.read() as connection:
        run = runs.get_run(connection, run_id)
        counts = tasks.task_counts(connection, run_id)
    if run is None:
        raise no_run(run_id)
    return RunSummary(
        run_id=run.id,
        job=run.job,
        status=run.status,
        reason=run.detail or run.reason,
        result=run.result,
        attempts=run.attempts,
        duration_seconds=run.active_micros / 1_000_000,
        tasks=counts,
        tokens=tokens_json(run.spend.usage),
        cost_usd=usd(run.spend.cost_nano),
        llm_calls=run.spend.llm_calls,
        tool_calls=run.spend.tool_calls,
        trace_id=run.trace_id,
    )
