"""What happened since yesterday evening: counts, what needs a person, cost, next fires, and the scheduler. Loads no job file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from taskpilot.deployment import Deployment
from taskpilot.domain.attention import Attention, AttentionKind
from taskpilot.domain.fires import ClockEvent, ClockEventKind, SchedulerStatus
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.messages.shapes import iso, usd
from taskpilot.store import night_queries, schedules
from taskpilot.store.job_checks import job_checks_of
from taskpilot.views.attention import attention_json, find_attention, stored_plans, yesterday_evening
from taskpilot.views.health import read_scheduler

NEXT: Final = 3
"""So many next fires are shown."""


@dataclass(frozen=True, slots=True)
class Status:
    """The whole answer."""

    since: datetime
    until: datetime
    attention: tuple[Attention, ...] = ()
    counts: dict[RunStatus, int] = field(default_factory=dict)
    fires: dict[FireOutcome, int] = field(default_factory=dict)
    cost_nano: int = 0
    unpriced_calls: int = 0
    next_fires: tuple[tuple[str, datetime], ...] = ()
    scheduler: SchedulerStatus = SchedulerStatus.ABSENT
    last_tick: datetime | None = None
    outages: tuple[ClockEvent, ...] = ()
    """When no scheduler was running, although one was before and after."""

    @property
    def ok(self) -> bool:
        """Whether nothing needs a person."""
        return self.scheduler is not SchedulerStatus.DEAD and all(one.settled for one in self.attention)


def status(deployment: Deployment, *, since: datetime | None = None) -> Status:
    """What happened since an instant, by default yesterday 18:00 in the zone of this machine. Creates no store.

    Raises StoreError, StoreBusy or ConfigurationError.
    """
    now = deployment.now()
    since = yesterday_evening(now) if since is None else since
    if deployment.store_is_missing:
        return Status(since, now)
    with deployment.store.read() as connection:
        row, state = read_scheduler(connection, deployment)
        totals = night_queries.run_totals(connection, since)
        attention = find_attention(connection, since=since, now=now, server=state)
        if row is not None and state.awake:
            attention = [*_unnamed(row.broken, attention), *attention]
        events = night_queries.clock_events_since(connection, since)
        paused = schedules.pauses_in_force(connection)
        plans = stored_plans(schedules.schedules_in_force(connection), job_checks_of(connection))
        fires = night_queries.fire_counts(connection, since)
    return Status(
        since=since,
        until=now,
        attention=tuple(attention),
        counts=totals.counts,
        fires=fires,
        cost_nano=totals.cost_nano,
        unpriced_calls=totals.unpriced_calls,
        next_fires=_next([(plan.name, plan.schedule.next_after(now)) for plan in plans if plan.schedule and plan.name not in paused]),
        scheduler=state,
        last_tick=None if row is None else row.last_tick_at,
        outages=tuple(event for event in events if event.kind is ClockEventKind.ASLEEP),
    )


def status_json(found: Status, command: Callable[[Sequence[str]], str]) -> dict[str, Any]:
    """The answer as a JSON value; `command` makes a line to paste from the words after `taskpilot`."""
    return {
        "since": iso(found.since),
        "until": iso(found.until),
        "ok": found.ok,
        "counts": {status.value: number for status, number in found.counts.items()},
        "fires": {outcome.value: number for outcome, number in found.fires.items()},
        "attention": [attention_json(one, command) for one in found.attention],
        "waiting": found.counts.get(RunStatus.WAITING, 0),
        "cost_usd": None if found.unpriced_calls else usd(found.cost_nano),
        "budget": {"day_usd": None, "spent_usd": None},
        "next": [{"job": job, "at": iso(at)} for job, at in found.next_fires],
        "scheduler": {"state": found.scheduler.value, "last_tick": iso(found.last_tick)},
    }


def _next(fires: Sequence[tuple[str, datetime | None]]) -> tuple[tuple[str, datetime], ...]:
    coming = [(job, at) for job, at in fires if at is not None]
    return tuple(sorted(coming, key=lambda one: (one[1], one[0]))[:NEXT])


def _unnamed(broken: Sequence[str], found: Sequence[Attention]) -> list[Attention]:
    """The files that the server cannot load and that no job is known by."""
    told = [str(one.reason.facts.get("error", "")) for one in found if one.kind is AttentionKind.BROKEN]
    return [
        Attention(AttentionKind.BROKEN, None, None, Reason(ReasonCode.JOB_BROKEN, {"error": line}))
        for line in broken
        if not any(line in text for text in told)
    ]
