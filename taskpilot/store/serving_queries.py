"""Queries of what a server prints: events since the last look, running runs, and fires that were skipped just now."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from taskpilot.domain.events import EventKind
from taskpilot.domain.fires import Fire
from taskpilot.domain.reasons import Reason
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.fires import fire_of
from taskpilot.store.records import reason_of
from taskpilot.store.tables import among, events, fires, runs

_MANY: Final = 1000
_RECENT: Final = timedelta(days=1)
_SKIPPED: Final = (FireOutcome.SKIPPED_OVERLAP, FireOutcome.PAUSED, FireOutcome.COALESCED)
"""The outcomes of which no event is recorded."""


@dataclass(frozen=True, slots=True)
class Event:
    """A row of `events`."""

    id: int
    at: datetime
    kind: EventKind
    job: str
    run_id: str | None
    scheduled_for: int | None
    number: int
    reason: Reason


def last_event(connection: Connection) -> int:
    """The id of the newest event; 0 where there is none."""
    return connection.execute(select(func.max(events.c.id))).scalar() or 0


def events_after(connection: Connection, last: int) -> list[Event]:
    """The events that are newer, in their order."""
    rows = connection.execute(select(events).where(events.c.id > last).order_by(events.c.id).limit(_MANY))
    return [
        Event(row.id, from_micros(row.at), EventKind(row.kind), row.job, row.run_id, row.scheduled_for, row.number, reason_of(row))
        for row in rows
    ]


def running_runs(connection: Connection) -> list[str]:
    """The ids of the runs that are running."""
    return list(connection.execute(select(runs.c.id).where(runs.c.status == RunStatus.RUNNING)).scalars())


def fires_skipped(connection: Connection, jobs: Collection[str], since: datetime) -> list[Fire]:
    """The fires of these jobs that were skipped since an instant, without an event."""
    wanted = select(fires).where(among(fires.c.job, jobs), fires.c.scheduled_for >= to_micros(since - _RECENT))
    wanted = wanted.where(fires.c.recorded_at >= to_micros(since), fires.c.outcome.in_(_SKIPPED))
    return [fire_of(row) for row in connection.execute(wanted.order_by(fires.c.scheduled_for, fires.c.job).limit(_MANY))]
