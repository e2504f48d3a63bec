"""What the HTTP routes use of the process that serves them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from taskpilot.deployment import Deployment
from taskpilot.domain.fires import SchedulerState


@dataclass(frozen=True, slots=True)
class Services:
    """The deployment and the scheduler; all of it may be used from any thread."""

    deployment: Deployment
    now: Callable[[], datetime]
    seconds_since_tick: Callable[[], float]
    """Since the scheduler's last tick."""
    state: Callable[[], SchedulerState]
    failure: Callable[[], str | None]
    """Why the scheduler's last tick could not do its work; None where it could."""
    wake: Callable[[], None]
    """Makes the scheduler check its queue at once."""
