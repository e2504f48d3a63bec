"""The deployment's chores for a job of one's own: `from taskpilot import maintenance`.

In a run they are for the run's own store; elsewhere for that of the root that the current folder is in.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from taskpilot.config import load
from taskpilot.deployment import Deployment, current_deployment
from taskpilot.services import maintenance as chores
from taskpilot.services.publishing import publish_on_change


def close_ended_leases() -> list[str]:
    """Ends the attempts of runs whose process is gone; gives the runs' ids. Raises StoreError or StoreBusy."""
    with _deployment() as deployment:
        return chores.close_ended_leases(deployment)


def close_missed() -> dict[str, int]:
    """Where no server is awake: records the fires that nobody can start any more; gives how many were `missed`, of how many `jobs`."""
    with _deployment() as deployment:
        return chores.close_missed(deployment)


def deliver_pending() -> dict[str, int]:
    """Pushes the metric groups that are pending; gives how many were `delivered` and how many are still `pending`."""
    with _deployment() as deployment:
        return chores.deliver_pending(deployment)


def deliver_pending_traces() -> dict[str, int]:
    """Sends the collector the spans that it missed; gives of how many runs they were `delivered` and are still `pending`."""
    with _deployment() as deployment:
        return chores.deliver_pending_traces(deployment)


def prune_gateway() -> int:
    """Removes the gateway's groups of jobs that no file defines any more; gives how many."""
    with _deployment() as deployment:
        return chores.prune_gateway(deployment)


def prune_history() -> dict[str, int]:
    """Deletes what is older than the setting `history_days`; gives how many `runs` and `fires`."""
    with _deployment() as deployment:
        return chores.prune_old_history(deployment)


@contextmanager
def _deployment() -> Iterator[Deployment]:
    running = current_deployment()
    deployment = running or publish_on_change(Deployment(load()))
    try:
        yield deployment
    finally:
        if running is None:
            deployment.close()
