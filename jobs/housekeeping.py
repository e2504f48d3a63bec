"""Ends runs whose process is gone, records scheduled times that nothing started, sends metrics and traces that could not be sent earlier,
and deletes the metrics of deleted jobs and history older than `history_days`. Asks no model.
"""

from taskpilot import RunContext, cron, job, maintenance


@job(schedule=cron("*/15 * * * *"), deadline="5m")
def housekeeping(ctx: RunContext) -> str:
    """End lost runs, record missed runs, send unsent metrics and traces, delete old history."""
    closed = ctx.step("end lost runs", maintenance.close_ended_leases)
    fires = ctx.step("record missed fires", maintenance.close_missed)
    delivery = ctx.step("deliver pending metrics", maintenance.deliver_pending)
    traces = ctx.step("deliver pending traces", maintenance.deliver_pending_traces)
    groups = ctx.step("remove metrics of gone jobs", maintenance.prune_gateway)
    history = ctx.step("prune history", maintenance.prune_history)
    ctx.log.info(
        "housekeeping done",
        closed=len(closed),
        missed=fires["missed"],
        delivered=delivery["delivered"],
        pending=delivery["pending"],
        groups_removed=groups,
        runs_pruned=history["runs"],
    )
    return (
        f"{len(closed)} lost runs ended, {fires['missed']} missed fires recorded, "
        f"{delivery['delivered']} pending metric groups delivered, {delivery['pending']} still pending, "
        f"traces of {traces['delivered']} runs delivered, of {traces['pending']} still pending, "
        f"{groups} metric groups of gone jobs and {history['runs']} old runs removed"
    )
