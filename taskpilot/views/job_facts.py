"""The facts of a job's definition that its metrics need."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.notices import PING
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import JobSpec
from taskpilot.telemetry.metrics import JobFacts
from taskpilot.tools.decorator import BUILT_IN

WORKFLOW_AGENTS: Final = ("planner", "reviewer", "executor")
_LOOK_AHEAD: Final = 20
"""Number of coming fires in which the widest gap is searched: more than a weekday schedule has in a week."""


def facts_of(deployment: Deployment, spec: JobSpec, *, model: str | None = None) -> JobFacts:
    """The label values and limits of a job; `model` replaces the job's own."""
    now = deployment.now()
    pings = (PING,) if spec.ping_url or deployment.settings.notify_ping_url else ()
    return JobFacts(
        name=spec.name,
        model=model or spec.model or deployment.settings.model,
        tools=(*BUILT_IN, *(tool.name for tool in spec.tools)),
        agents=WORKFLOW_AGENTS,
        channels=(*(deployment.settings.notify_default if spec.notify is None else spec.notify), *pings),
        deadline_micros=spec.deadline // timedelta(microseconds=1),
        max_success_gap_micros=max_success_gap(spec, now),
        next_fire=None if spec.schedule is None else spec.schedule.next_after(now),
    )


def describe(deployment: Deployment, job: str, *, model: str | None = None) -> JobFacts:
    """The facts of a job by name; only the name where its file or the folder is broken or missing."""
    try:
        # A push loads no job file.
        spec = deployment.known_catalog.jobs.get(job)
    except ConfigurationError:
        # The run is recorded; its metrics are pushed all the same.
        spec = None
    return JobFacts(name=job, configured=False) if spec is None else facts_of(deployment, spec, model=model)


def max_success_gap(spec: JobSpec, now: datetime) -> int | None:
    """The widest gap between two coming fires plus the deadline, in microseconds; None without a schedule."""
    gap = None if spec.schedule is None else widest_gap(spec.schedule, now)
    return None if gap is None else (gap + spec.deadline) // timedelta(microseconds=1)


def widest_gap(schedule: Schedule, now: datetime) -> timedelta | None:
    """The widest gap between two coming fires; None where there are fewer than two."""
    fires: list[datetime] = []
    moment: datetime | None = now
    while len(fires) < _LOOK_AHEAD and moment is not None:
        moment = schedule.next_after(moment)
        if moment is not None:
            fires.append(moment)
    return max((later - earlier for earlier, later in pairwise(fires)), default=None)
