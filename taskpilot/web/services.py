"""What the HTTP side may use of the process that it stands in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from taskpilot.domain.fires import SchedulerState
from taskpilot.operations.house import House


@dataclass(frozen=True, slots=True)
class Services:
    """The house and the scheduler, by what one may ask of them from any thread."""

    house: House
    now: Callable[[], datetime]
    seconds_since_turn: Callable[[], float]
    """Since the scheduler's loop came round last."""
    state: Callable[[], SchedulerState]
    wake: Callable[[], None]
    """The scheduler looks at its queue at once."""
