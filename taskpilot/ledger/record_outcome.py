"""Finds the open fires of a job and records their outcomes, in the caller's transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.fires import PUNCTUAL, Pause, ScheduleInForce
from taskpilot.domain.instruments import FIRES
from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.ledger.claims import Claimed
from taskpilot.ledger.due_policy import ROWS_MAX, Due, Judgement, Span, close, counted
from taskpilot.schedules.schedule import catch_up_window, schedule_of
from taskpilot.store import fires, schedules, totals
from taskpilot.store.database import Transaction

TICK: Final = timedelta(microseconds=1)
"""The resolution of recorded times."""

Likeness = tuple[str, datetime | None, timedelta | None]
"""Jobs with the same schedule, cursor and catch-up window have the same open fires, which are found once for all of them."""


def due_of(force: ScheduleInForce, spec: JobSpec | None, now: datetime, alike: dict[Likeness, Due]) -> Due:
    """The open fires of a job; none where the recorded schedule is not the current one: `begin_and_end_schedules` comes first."""
    assert force.cursor is not None
    schedule = schedule_of(force.schedule) if spec is None else spec.schedule
    if schedule is None or schedule.describe() != force.schedule or force.cursor >= now:
        return Due(force.job, force.schedule, None, ())
    likeness = (force.schedule, force.cursor, timedelta(0) if spec is None else spec.catch_up_window)
    if likeness not in alike:
        window = window_of(spec, now)
        # A fire that is exactly as old as the window may still be caught up.
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
        # A person may have claimed a time that is not a fire: it has a row and was not counted.
        left = old.count - sum(old.first <= (fire := from_micros(micros)) <= old.last and schedule.is_fire(fire) for micros in taken)
        old = Span(old.first, old.last, left) if left else None
    return replace(due, old=old, recent=tuple(fire for fire in due.recent if to_micros(fire) not in taken))


def window_of(spec: JobSpec | None, now: datetime) -> timedelta:
    """How old a fire of the job may be and still be caught up; 0 where its file is broken."""
    if spec is None or spec.schedule is None:
        return timedelta(0)
    return catch_up_window(spec.schedule, now, chosen=spec.catch_up_window)


def close_open(
    connection: Transaction, force: ScheduleInForce, until: datetime, outcome: FireOutcome, reason: Reason, now: datetime
) -> int:
    """Gives every open fire up to `until` one outcome and moves the cursor there; returns their number.

    0 where the cursor is there already.
    """
    current = schedules.schedules_in_force(connection, [force.job]).get(force.job)
    if current is None or current.cursor is None or current.schedule != force.schedule or until <= current.cursor:
        return 0
    schedule = schedule_of(current.schedule)
    many = schedule.count_between(current.cursor, until) > ROWS_MAX
    due = open_between(current, schedule, horizon=until if many else current.cursor, until=until)
    judgement = Judgement()
    for one in without_taken(connection, {force.job: due}).values():
        close(judgement, one, one.recent, outcome, reason, now, old=one.old)
    record(connection, {force.job: judgement}, until)
    return sum(counted(judgement).values())


def close_paused(
    connection: Transaction, force: ScheduleInForce, pause: Pause, until: datetime, now: datetime, *, not_met: Mapping[str, Fact]
) -> Claimed:
    """Closes the open fires of a paused job up to `until`; those before the pause are missed, for the reason `not_met`."""
    before = pause.reason(ReasonCode.WAS_PAUSED, **not_met)
    counts = {
        FireOutcome.MISSED: close_open(connection, force, min(until, pause.paused_at), FireOutcome.MISSED, before, now),
        FireOutcome.PAUSED: close_open(connection, force, until, FireOutcome.PAUSED, pause.reason(), now),
    }
    outcomes = {outcome: number for outcome, number in counts.items() if number}
    return Claimed(outcomes, frozenset({force.job} if outcomes else ()))


def sum_of(several: Sequence[Claimed]) -> Claimed:
    """Several claims as one."""
    outcomes: dict[FireOutcome, int] = {}
    for one in several:
        for outcome, number in one.outcomes.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + number
    return Claimed(outcomes, frozenset().union(*(one.jobs for one in several)))


def close_waiting(
    connection: Transaction, job: str, scheduled_for: datetime, outcome: FireOutcome, reason: Reason, *, now: datetime
) -> bool:
    """Takes a fire out of the queue with its final outcome, and counts it. False: it had left the queue already."""
    if not fires.settle_fire(connection, job, scheduled_for, outcome, reason=reason, now=now):
        return False
    count_fire(connection, job, outcome)
    return True


def count_fire(connection: Transaction, job: str, outcome: FireOutcome) -> None:
    """Counts a fire that got its final outcome."""
    totals.add(connection, job, [totals.count(FIRES, outcome=outcome)])
    totals.mark_dirty(connection, job)


def record(connection: Transaction, judged: Mapping[str, Judgement], cursor: datetime) -> Claimed:
    """Records the decided outcomes of each job, counts the final ones, and moves the cursors."""
    fires.insert_fires(connection, [fire for one in judged.values() for fire in one.fires])
    outcomes: dict[FireOutcome, int] = {}
    changed: set[str] = set()
    for job, one in judged.items():
        for gap in one.gaps:
            fires.insert_gap(connection, gap)
        for fire, reason in one.replaced:
            close_waiting(connection, job, fire, FireOutcome.SKIPPED_OVERLAP, reason, now=cursor)
        counts = counted(one)
        if counts:
            totals.add(connection, job, [totals.count(FIRES, number, outcome=outcome) for outcome, number in counts.items()])
            totals.mark_dirty(connection, job)
            changed.add(job)
        waiting = sum(fire.outcome is FireOutcome.BUFFERED for fire in one.fires)
        counts |= {FireOutcome.BUFFERED: waiting} if waiting else {}
        for outcome, number in counts.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + number
    schedules.move_cursors(connection, judged, cursor)
    return Claimed(outcomes, frozenset(changed))
