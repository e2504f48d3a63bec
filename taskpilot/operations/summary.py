"""A run as the one JSON line and the few lines for people that a command prints."""

from taskpilot.domain.errors import NotFound
from taskpilot.domain.runs import RunSummary
from taskpilot.domain.usage import nano_to_usd
from taskpilot.store import runs, tasks
from taskpilot.store.database import Store


def summarize(store: Store, run_id: str) -> RunSummary:
    """What the record says of a run. Raises NotFound."""
    with store.read() as connection:
        run = runs.get_run(connection, run_id)
        counts = tasks.task_counts(connection, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}; `taskpilot runs list` shows them")
    usage = run.spend.usage
    return RunSummary(
        run_id=run.id,
        job=run.job,
        status=run.status,
        reason=run.detail or run.reason,
        result=run.result,
        attempts=run.attempts,
        duration_seconds=run.active_micros / 1_000_000,
        tasks=counts,
        tokens={"input": usage.input, "cached_input": usage.cached_input, "output": usage.output},
        cost_usd=None if run.spend.cost_nano is None else float(nano_to_usd(run.spend.cost_nano)),
        llm_calls=run.spend.llm_calls,
        tool_calls=run.spend.tool_calls,
        trace_id=run.trace_id,
    )
