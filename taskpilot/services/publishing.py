"""Publishes the telemetry of changed jobs; the store calls it after each commit that changed a job's ledger."""

import time
from functools import partial

from taskpilot.deployment import Deployment
from taskpilot.store.totals import Change


def publish_changes(deployment: Deployment, changes: frozenset[Change]) -> None:
    """Publishes the jobs one after the other, within half a second in all; the rest stays pending in the store."""
    from taskpilot.telemetry.publish import TOTAL_SECONDS

    end = time.monotonic() + TOTAL_SECONDS
    for change in sorted(changes, key=lambda one: (one.ended_run is None, one.job)):
        left = end - time.monotonic()
        if left > 0:
            publish_change(deployment, change.job, run_id=change.ended_run, seconds=left)


def publish_change(deployment: Deployment, job: str, *, run_id: str | None = None, model: str | None = None, seconds: float) -> None:
    """Publishes one job to files, gateway and collector, for at most `seconds`; never raises. `run_id`: the run whose spans are written."""
    # Late: a command that changes nothing does not import it.
    from taskpilot.telemetry.publish import Targets, publish
    from taskpilot.views.job_facts import describe

    publish(
        deployment.store,
        Targets.of(deployment.settings),
        run_id,
        describe(deployment, job, model=model),
        describe=lambda name: describe(deployment, name),
        total_seconds=seconds,
        now=deployment.now,
    )


def publish_on_change(deployment: Deployment) -> Deployment:
    """Publishes the changes of the deployment's store from now on, in the thread that wrote them; returns the deployment."""
    deployment.on_change = partial(publish_changes, deployment)
    return deployment
