"""What the HTTP side may use of the process that it stands in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from taskpilot.deployment import Deployment
from taskpilot.domain.fires import SchedulerState


@dataclass(frozen=True, slots=True)
class Services:
    """The deployment and the scheduler, by what one may ask of them from any thread."""

    deployment: Deployment
    now: Callable[[], datetime]
    seconds_since_tick: Callable[[], float]
    """Since the scheduler's last tick."""
    state: Callable[[], SchedulerState]
    wake: Callable[[], None]
    """The scheduler looks at its queue at once."""
