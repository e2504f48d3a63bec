"""The built-in job `housekeeping`: in every installation, unless the setting `housekeeping` is off or the root has a job of that name."""

from collections.abc import Sequence
from dataclasses import replace

from taskpilot.config import Settings
from taskpilot.context.run_context import RunContext
from taskpilot.deployment import current_deployment
from taskpilot.domain.specs import JobSpec
from taskpilot.jobs.decorator import job, job_spec
from taskpilot.schedules.schedule import every


@job(deadline="5m")
def housekeeping(ctx: RunContext) -> str:
    """End lost runs, record missed runs, send unsent metrics and traces, delete old history."""
    # Late: a command that only lists the jobs needs no telemetry.
    from taskpilot.services import maintenance

    deployment = current_deployment()
    assert deployment is not None, "each job's process has one"
    closed = ctx.step("end lost runs", maintenance.close_ended_leases, deployment)
    fires = ctx.step("record missed fires", maintenance.close_missed, deployment)
    delivery = ctx.step("deliver pending metrics", maintenance.deliver_pending, deployment)
    traces = ctx.step("deliver pending traces", maintenance.deliver_pending_traces, deployment)
    groups = ctx.step("remove metrics of gone jobs", maintenance.prune_gateway, deployment)
    history = ctx.step("prune history", maintenance.prune_old_history, deployment)
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


def built_in_jobs(settings: Settings) -> Sequence[JobSpec]:
    """The jobs that a root has besides those of its own folder."""
    if settings.housekeeping is None:
        return ()
    return (replace(job_spec(housekeeping), schedule=every(settings.housekeeping)),)
