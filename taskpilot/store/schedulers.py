"""Queries over schedulers and clock events."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from taskpilot.domain.fires import AWAKE, ClockEvent, ClockEventKind, SchedulerRow, SchedulerState
from taskpilot.domain.ids import new_id
from taskpilot.domain.runs import Owner
from taskpilot.domain.text import storable
from taskpilot.domain.times import BootTime, from_micros, to_micros
from taskpilot.store.records import dumps, owner_of
from taskpilot.store.tables import audit, clock_events, schedulers


def begin_scheduler(connection: Connection, scheduler_id: str, *, owner: Owner, version: str, now: datetime, boot: BootTime) -> None:
    """Records the start of a `taskpilot serve`."""
    held = {"host": owner.host, "boot_id": owner.boot_id, "pid": owner.pid, "process_start": owner.process_start}
    at = to_micros(now)
    row = {"id": scheduler_id, "owner": dumps(held), "version": version, "state": SchedulerState.STARTING}
    connection.execute(insert(schedulers).values(**row, started_at=at, last_tick_at=at, last_tick_boot=boot.micros))


def tick(
    connection: Connection,
    scheduler_id: str,
    *,
    now: datetime,
    boot: BootTime,
    state: SchedulerState,
    lag: timedelta,
    jobs: int,
    broken: Sequence[str],
    error: str | None,
    restart: Sequence[str] = (),
) -> bool:
    """Records that the scheduler is awake, and its state; False where it has no row."""
    values = {
        "state": state,
        "last_tick_at": to_micros(now),
        "last_tick_boot": boot.micros,
        "lag_micros": lag // timedelta(microseconds=1),
        "jobs": jobs,
        "broken": dumps([storable(line) for line in broken]),
        "error": None if error is None else storable(error),
        "restart": dumps(list(restart)),
        "stopped_at": to_micros(now) if state is SchedulerState.STOPPED else None,
    }
    return connection.execute(update(schedulers).where(schedulers.c.id == scheduler_id).values(**values)).rowcount == 1


def last_tick(connection: Connection, *, but: str | None = None) -> datetime | None:
    """The last tick of any other scheduler; None where there is none."""
    wanted = select(func.max(schedulers.c.last_tick_at))
    if but is not None:
        wanted = wanted.where(schedulers.c.id != but)
    micros = connection.execute(wanted).scalar()
    return None if micros is None else from_micros(micros)


def awake_schedulers(connection: Connection, boot: BootTime) -> list[SchedulerRow]:
    """The schedulers that are awake and start runs, the longest running first."""
    return [row for row in living_schedulers(connection, boot) if row.state is not SchedulerState.DRAINING]


def living_schedulers(connection: Connection, boot: BootTime) -> list[SchedulerRow]:
    """The schedulers that are awake, the longest running first; one that drains too."""
    late = boot.micros - AWAKE // timedelta(microseconds=1)
    wanted = select(schedulers).where(schedulers.c.last_tick_boot > late, schedulers.c.state != SchedulerState.STOPPED)
    rows = map(scheduler_of, connection.execute(wanted.order_by(schedulers.c.started_at)))
    # Another boot may have lasted longer than this one does yet.
    return [row for row in rows if row.owner.boot_id == boot.boot_id]


def newest_scheduler(connection: Connection) -> SchedulerRow | None:
    """The scheduler that ticked last."""
    row = connection.execute(select(schedulers).order_by(schedulers.c.last_tick_at.desc()).limit(1)).first()
    return None if row is None else scheduler_of(row)


def insert_clock_event(connection: Connection, event: ClockEvent) -> str:
    """Records that no scheduler was awake, or that the clock was set; gives the row's id."""
    event_id = new_id()
    values = {"id": event_id, "kind": event.kind, "from_at": to_micros(event.start), "to_at": to_micros(event.end)}
    connection.execute(insert(clock_events).values(**values))
    return event_id


def clock_events_at(connection: Connection, moment: datetime) -> list[ClockEvent]:
    """The clock events whose time includes a moment."""
    micros = to_micros(moment)
    low, high = func.min(clock_events.c.from_at, clock_events.c.to_at), func.max(clock_events.c.from_at, clock_events.c.to_at)
    wanted = select(clock_events).where(low <= micros, high >= micros).order_by(clock_events.c.id)
    return [_clock_event_of(row) for row in connection.execute(wanted)]


def clock_steps(connection: Connection, since: datetime, until: datetime) -> list[ClockEvent]:
    """When the clock was set, and what that changed, the oldest first; not when no scheduler was awake."""
    at = clock_events.c.to_at.between(to_micros(since), to_micros(until))
    wanted = select(clock_events).where(at, clock_events.c.kind != ClockEventKind.ASLEEP).order_by(clock_events.c.to_at, clock_events.c.id)
    return [_clock_event_of(row) for row in connection.execute(wanted)]


def _clock_event_of(row: Row[Any]) -> ClockEvent:
    return ClockEvent(ClockEventKind(row.kind), from_micros(row.from_at), from_micros(row.to_at))


def insert_audit(connection: Connection, *, actor: str, action: str, subject: str, now: datetime, answer: str = "") -> str:
    """Records a write that came through the API; gives the row's id. Without an answer it is not done yet."""
    row = {"id": new_id(), "at": to_micros(now), "actor": storable(actor), "action": storable(action), "subject": storable(subject)}
    connection.execute(insert(audit).values(**row, answer=storable(answer)))
    return str(row["id"])


def answer_audit(connection: Connection, audit_id: str, answer: str) -> None:
    """Adds the answer to such a write."""
    connection.execute(update(audit).where(audit.c.id == audit_id).values(answer=storable(answer)))


def scheduler_of(row: Row[Any]) -> SchedulerRow:
    """A row of `schedulers`."""
    owner = owner_of(row.owner)
    assert owner is not None
    return SchedulerRow(
        id=row.id,
        owner=owner,
        version=row.version,
        state=SchedulerState(row.state),
        started_at=from_micros(row.started_at),
        last_tick_at=from_micros(row.last_tick_at),
        lag=timedelta(microseconds=row.lag_micros),
        jobs=row.jobs,
        broken=tuple(json.loads(row.broken)),
        error=row.error,
        restart=tuple(json.loads(row.restart)),
        stopped_at=None if row.stopped_at is None else from_micros(row.stopped_at),
    )
