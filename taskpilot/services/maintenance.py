"""Maintenance for jobs: ends lost runs, records missed fires, delivers pending telemetry, deletes old history."""

from datetime import timedelta
from functools import partial

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.runs import FireOutcome
from taskpilot.services.database import prune_history
from taskpilot.services.jobs import follow_definitions
from taskpilot.services.metrics import Outcome, prune_groups
from taskpilot.store.metrics_queries import pending_jobs
from taskpilot.store.schedulers import awake_schedulers
from taskpilot.telemetry.gateway import GatewayUnreachable
from taskpilot.telemetry.publish import Targets
from taskpilot.telemetry.traces.delivery import Delivery, send_pending_traces
from taskpilot.views.job_facts import describe


def close_ended_leases(deployment: Deployment) -> list[str]:
    """Ends the questions that nobody answered in time, and the attempts of runs whose process is gone; returns the ids of those runs."""
    deployment.ledger.expire()
    return [run.id for run in deployment.ledger.reap()]


def close_missed(deployment: Deployment) -> dict[str, int]:
    """Without a running scheduler: records fires as missed that can no longer be claimed; returns counts of `missed` and `jobs`.

    A running scheduler does so itself, possibly with newer definitions than this process.
    """
    with deployment.store.read() as connection:
        if awake_schedulers(connection, deployment.boot()):
            return {"missed": 0, "jobs": 0}
    closed = deployment.fires.close_missed(follow_definitions(deployment))
    return {"missed": closed.outcomes.get(FireOutcome.MISSED, 0), "jobs": len(closed.jobs)}


def deliver_pending_traces(deployment: Deployment, *, seconds: float = 30.0) -> dict[str, int]:
    """Sends pending spans to the collector; returns how many runs were `delivered` and how many are still `pending`."""
    if not deployment.settings.otel_enabled:
        return {"delivered": 0, "pending": 0}
    delivery = replay_traces(deployment, seconds=seconds)
    return {"delivered": delivery.runs, "pending": delivery.pending}


def replay_traces(deployment: Deployment, *, seconds: float) -> Delivery:
    """Sends pending spans to the collector, for at most `seconds`.

    Raises ConfigurationError where traces are switched off, StoreError or StoreBusy.
    """
    targets = Targets.of(deployment.settings)
    if targets.collector is None:
        raise ConfigurationError(
            f"no collector is set: traces are switched off by {deployment.settings.sources['otel_enabled']}. "
            "traces.jsonl in the state dir has every span"
        )
    return send_pending_traces(
        deployment.store, targets.collector, resource=targets.resource, content=targets.content, seconds=seconds, now=deployment.now
    )


def prune_gateway(deployment: Deployment) -> int:
    """Deletes the gateway's groups of removed jobs; returns how many: 0 where no gateway is set or reachable."""
    if deployment.settings.pushgateway_url is None:
        return 0
    try:
        return sum(one.outcome is Outcome.REMOVED for one in prune_groups(deployment))
    except GatewayUnreachable:
        return 0


def prune_old_history(deployment: Deployment, *, seconds: float = 60.0) -> dict[str, int]:
    """Deletes what is older than the setting `history_days`; returns how many `runs` and `fires`. The next call does the rest."""
    days = deployment.settings.history_days
    if days is None:
        return {"runs": 0, "fires": 0}
    pruned = prune_history(deployment, timedelta(days=days), seconds=seconds)
    return {"runs": pruned.runs, "fires": pruned.fires}


def deliver_pending(deployment: Deployment, *, seconds: float = 30.0) -> dict[str, int]:
    """Pushes pending metric groups; returns how many were `delivered` and how many are still `pending`."""
    gateway = deployment.gateway
    if gateway is None:
        return {"delivered": 0, "pending": 0}
    results = gateway.push_pending(partial(describe, deployment), seconds=seconds)
    with deployment.store.read() as connection:
        pending = len(pending_jobs(connection, deployment.now()))
    return {"delivered": sum(result.delivered for result in results.values()), "pending": pending}
