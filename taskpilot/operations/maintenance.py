"""Chores that any job may do: end what is lost, record what was missed, deliver what is owed."""

from datetime import timedelta

from taskpilot.domain.runs import FireOutcome
from taskpilot.operations.definitions import follow_definitions
from taskpilot.operations.facts import describe
from taskpilot.operations.history import prune_history
from taskpilot.operations.house import House
from taskpilot.operations.metrics import Outcome, prune_groups
from taskpilot.operations.running import publish_change
from taskpilot.operations.traces import replay
from taskpilot.signals.gateway import GatewayUnreachable, push_owed
from taskpilot.store.metrics_queries import owed_jobs
from taskpilot.store.schedulers import awake_schedulers


def close_ended_leases(house: House) -> list[str]:
    """Ends the attempts of runs whose process is gone; gives the runs' ids."""
    closed = house.ledger.reap()
    for run in closed:
        publish_change(house, run.job, run_id=run.id)
    return [run.id for run in closed]


def close_missed(house: House) -> dict[str, int]:
    """Where no server is awake: records as missed what nobody can claim any more; gives how many fires were `missed`, of how many `jobs`.

    A server that is awake does so itself, with newer definitions than this process may have.
    """
    with house.store.read() as connection:
        if awake_schedulers(connection, house.now()):
            return {"missed": 0, "jobs": 0}
    closed = house.fires.close_missed(follow_definitions(house))
    for job in sorted(closed.jobs):
        publish_change(house, job)
    return {"missed": closed.outcomes.get(FireOutcome.MISSED, 0), "jobs": len(closed.jobs)}


def deliver_owed_traces(house: House, *, seconds: float = 30.0) -> dict[str, int]:
    """Sends the collector the spans that it has not got; gives of how many runs they were `delivered` and are still `owed`."""
    if not house.settings.otel_enabled:
        return {"delivered": 0, "owed": 0}
    delivery = replay(house, seconds=seconds)
    return {"delivered": delivery.runs, "owed": delivery.owed}


def prune_gateway(house: House) -> int:
    """Removes the gateway's groups of jobs that are gone; gives how many: 0 where no gateway is set, or it is away."""
    if house.settings.pushgateway_url is None:
        return 0
    try:
        return sum(one.outcome is Outcome.REMOVED for one in prune_groups(house))
    except GatewayUnreachable:
        return 0


def prune_old_history(house: House, *, seconds: float = 60.0) -> dict[str, int]:
    """Deletes what is older than the setting `history_days`; gives how many `runs` and `fires`. What it has no time for is next time's."""
    days = house.settings.history_days
    if days is None:
        return {"runs": 0, "fires": 0}
    pruned = prune_history(house, timedelta(days=days), seconds=seconds)
    return {"runs": pruned.runs, "fires": pruned.fires}


def deliver_owed(house: House, *, seconds: float = 30.0) -> dict[str, int]:
    """Pushes the metric groups that are owed; gives how many were `delivered` and how many are still `owed`."""
    url = house.settings.pushgateway_url
    if url is None:
        return {"delivered": 0, "owed": 0}
    results = push_owed(
        house.store, url, house.settings.state_dir, describe=lambda job: describe(house, job), seconds_left=seconds, now=house.now
    )
    with house.store.read() as connection:
        owed = len(owed_jobs(connection, house.now()))
    return {"delivered": sum(result.delivered for result in results.values()), "owed": owed}
