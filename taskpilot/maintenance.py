"""Maintenance functions for your own jobs: `from taskpilot import maintenance`.

In a run they work on the run's store; elsewhere on the store of the root that the current folder is in.
"""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from taskpilot.config import load
from taskpilot.deployment import Deployment, current_deployment
from taskpilot.services import maintenance as services
from taskpilot.services.publishing import publish_on_change

P = ParamSpec("P")
R = TypeVar("R")


def _here(function: Callable[Concatenate[Deployment, P], R]) -> Callable[P, R]:
    """The same function, for the deployment of the present run or of the current folder."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        running = current_deployment()
        deployment = running or publish_on_change(Deployment(load()))
        try:
            return function(deployment, *args, **kwargs)
        finally:
            if running is None:
                deployment.close()

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call


close_ended_leases = _here(services.close_ended_leases)
close_missed = _here(services.close_missed)
deliver_pending = _here(services.deliver_pending)
deliver_pending_traces = _here(services.deliver_pending_traces)
prune_gateway = _here(services.prune_gateway)
prune_history = _here(services.prune_old_history)
