"""Keeps the house in order: ends runs whose process is gone, records fires that nobody started, delivers the metrics and traces that are
still owed, and removes what is over: the metrics of jobs that are gone, and history older than `history_days`. Asks no model.
"""

from taskpilot import RunContext, cron, job, maintenance


@job(schedule=cron("*/15 * * * *"), deadline="5m")
def housekeeping(ctx: RunContext) -> str:
    """End lost runs, record missed fires, deliver owed telemetry, remove what is over."""
    closed = ctx.step("end lost runs", maintenance.close_ended_leases)
    fires = ctx.step("record missed fires", maintenance.close_missed)
    delivery = ctx.step("deliver owed metrics", maintenance.deliver_owed)
    traces = ctx.step("deliver owed traces", maintenance.deliver_owed_traces)
    groups = ctx.step("remove metrics of gone jobs", maintenance.prune_gateway)
    history = ctx.step("prune history", maintenance.prune_history)
    ctx.log.info(
        "housekeeping done",
        closed=len(closed),
        missed=fires["missed"],
        delivered=delivery["delivered"],
        owed=delivery["owed"],
        groups_removed=groups,
        runs_pruned=history["runs"],
    )
    return (
        f"{len(closed)} lost runs ended, {fires['missed']} missed fires recorded, "
        f"{delivery['delivered']} owed metric groups delivered, {delivery['owed']} still owed, "
        f"traces of {traces['delivered']} runs delivered, of {traces['owed']} still owed, "
        f"{groups} metric groups of gone jobs and {history['runs']} old runs removed"
    )
