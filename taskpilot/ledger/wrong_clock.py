"""Undoes what a clock that was ahead left in the record, so that jobs are due again by the right one."""

from collections.abc import Mapping
from datetime import datetime

from taskpilot.domain.fires import PUNCTUAL, ClockEvent, ClockEventKind, ScheduleInForce
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.ledger.claims import Definitions
from taskpilot.ledger.record_outcome import TICK
from taskpilot.schedules.schedule import schedule_of
from taskpilot.store import future
from taskpilot.store.database import Transaction
from taskpilot.store.schedulers import insert_clock_event


def ahead_of(seen: Mapping[str, ScheduleInForce], jobs: Definitions, now: datetime) -> dict[str, Schedule]:
    """The jobs whose cursor is more than one period in the future, with their schedules: a clock that was ahead moved it.

    A step of less than `PUNCTUAL` is waited for: clocks are corrected by a few seconds, and no fire comes twice for that.
    """
    found = {}
    for job, force in seen.items():
        if force.cursor is not None and force.cursor > now and jobs.knows(job):
            schedule = schedule_of(force.schedule)
            if force.cursor - now > max(schedule.period_hint(now) or PUNCTUAL, PUNCTUAL):
                found[job] = schedule
    return found


def set_back(connection: Transaction, ahead: Mapping[str, Schedule], seen: Mapping[str, ScheduleInForce], now: datetime) -> None:
    """Sets these cursors to now. Fires of the future get a key of their own: they are due once more at the right time."""
    newest = max(cursor for job in ahead if (cursor := seen[job].cursor) is not None)
    event = insert_clock_event(connection, ClockEvent(ClockEventKind.CURSOR, newest, now))
    future.set_cursors_back(connection, ahead, now)
    future.rename_fires(connection, ahead, now, event=event)
    for gap in future.gaps_into_future(connection, ahead, now):
        schedule, first = schedule_of(gap.schedule), from_micros(gap.from_at)
        rows = (from_micros(micros) for micros in future.fires_between(connection, gap.job, first, now))
        own = sum(schedule.is_fire(fire) for fire in rows)
        last = schedule.latest_at_or_before(now, within=now - first) if first <= now else None
        number = schedule.count_between(first - TICK, now) - own if last is not None else 0
        future.cut_gap(connection, gap.id, to_at=to_micros(last or now), number=number)
