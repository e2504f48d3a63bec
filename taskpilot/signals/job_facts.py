"""What the configuration says of a job, as far as its metrics need it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job as configured: its known label values, of which zeros are exported, and its limits."""

    name: str
    model: str | None = None
    tools: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    deadline_micros: int | None = None
    max_success_gap_micros: int | None = None
    next_fire: datetime | None = None
    configured: bool = True
    """False: only the job's name is known (its file is broken, or was not read); what was exported of its limits stays."""
