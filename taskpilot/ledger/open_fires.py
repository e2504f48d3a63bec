"""Which fires of a job have no outcome yet: its schedule from its cursor on, without what a command has claimed."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.fires import PUNCTUAL, ScheduleInForce
from taskpilot.domain.moments import from_micros, to_micros
from taskpilot.domain.schedule import Schedule, catch_up_window
from taskpilot.domain.schedule_text import schedule_of
from taskpilot.domain.specs import JobSpec
from taskpilot.ledger.judging import Due, Span
from taskpilot.store import fires
from taskpilot.store.database import Transaction

TICK: Final = timedelta(microseconds=1)
"""The smallest step of time that the record knows."""

Likeness = tuple[str, datetime | None, timedelta | None]
"""Jobs of one schedule, cursor and catch-up window have the same fires open: these are found once for all of them."""


def due_of(force: ScheduleInForce, spec: JobSpec | None, now: datetime, alike: dict[Likeness, Due]) -> Due:
    """What is open of a job; nothing where the record is behind the folder: `begin_and_end_schedules` comes first."""
    assert force.cursor is not None
    schedule = schedule_of(force.schedule) if spec is None else spec.schedule
    if schedule is None or schedule.describe() != force.schedule or force.cursor >= now:
        return Due(force.job, force.schedule, None, ())
    likeness = (force.schedule, force.cursor, timedelta(0) if spec is None else spec.catch_up_window)
    if likeness not in alike:
        window = window_of(spec, now)
        # The tick: a fire that is exactly as old as the window may still be caught up.
        alike[likeness] = replace(open_between(force, schedule, horizon=now - max(window, PUNCTUAL) - TICK, until=now), window=window)
    like = alike[likeness]
    return Due(force.job, like.schedule, like.old, like.recent, like.window)


def open_between(force: ScheduleInForce, schedule: Schedule, *, horizon: datetime, until: datetime) -> Due:
    """The fires in (cursor, until]: those after the horizon one by one."""
    assert force.cursor is not None
    start = max(force.cursor, horizon)
    recent = tuple(schedule.between(start, until))
    count = schedule.count_between(force.cursor, start) if start > force.cursor else 0
    old = None
    if count:
        first, last = schedule.next_after(force.cursor), schedule.latest_at_or_before(start, within=start - force.cursor)
        assert first is not None
        assert last is not None
        old = Span(first, last, count)
    return Due(force.job, force.schedule, old, recent)


def without_taken(connection: Transaction, due: Mapping[str, Due]) -> dict[str, Due]:
    """The same without the fires that a command has claimed already by `--scheduled-for`."""
    taken = fires.fires_after_cursors(connection, due)
    return {job: _without(one, taken[job]) if job in taken else one for job, one in due.items()}


def _without(due: Due, taken: frozenset[int]) -> Due:
    old = due.old
    if old is not None:
        schedule = schedule_of(due.schedule)
        # A person may name a time that is no fire: it has a row, and is not among those that were counted.
        left = old.count - sum(_is_fire(schedule, old, from_micros(micros)) for micros in taken)
        old = Span(old.first, old.last, left) if left else None
    return replace(due, old=old, recent=tuple(fire for fire in due.recent if to_micros(fire) not in taken))


def _is_fire(schedule: Schedule, span: Span, moment: datetime) -> bool:
    return span.first <= moment <= span.last and schedule.next_after(moment - TICK) == moment


def window_of(spec: JobSpec | None, now: datetime) -> timedelta:
    """How old a fire of the job may be and still be caught up; nothing where its file is broken."""
    if spec is None or spec.schedule is None:
        return timedelta(0)
    return catch_up_window(spec.schedule, now, chosen=spec.catch_up_window)
