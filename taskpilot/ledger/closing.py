"""Writes down what became of fires: rows or gaps, counters and cursors, in the caller's transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from taskpilot.domain.fires import Pause, ScheduleInForce
from taskpilot.domain.instruments import FIRES
from taskpilot.domain.runs import FireOutcome
from taskpilot.domain.schedule_text import schedule_of
from taskpilot.ledger.claims import Claimed
from taskpilot.ledger.judging import ROWS_MAX, Judgement, close, counted
from taskpilot.ledger.open_fires import open_between, without_taken
from taskpilot.store import fires, schedules, totals
from taskpilot.store.database import Transaction


def close_open(connection: Transaction, force: ScheduleInForce, until: datetime, outcome: FireOutcome, reason: str, now: datetime) -> int:
    """Gives every open fire up to `until` one outcome and moves the cursor there; gives how many they were.

    Nothing where the cursor is there already.
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


def close_paused(connection: Transaction, force: ScheduleInForce, pause: Pause, until: datetime, reason: str, now: datetime) -> Claimed:
    """Closes the open fires of a job in a pause, up to `until`: what was due before it is missed, for the given reason."""
    counts = {
        FireOutcome.MISSED: close_open(connection, force, min(until, pause.paused_at), FireOutcome.MISSED, reason, now),
        FireOutcome.PAUSED: close_open(connection, force, until, FireOutcome.PAUSED, str(pause), now),
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


def close_waiting(connection: Transaction, job: str, scheduled_for: datetime, outcome: FireOutcome, reason: str, *, now: datetime) -> bool:
    """Takes a fire out of the queue with its final outcome, and counts it; False where it is not in the queue any more."""
    if not fires.settle_fire(connection, job, scheduled_for, outcome, reason=reason, now=now):
        return False
    totals.add(connection, job, [totals.count(FIRES, outcome=outcome)])
    totals.touch(connection, job)
    return True


def record(connection: Transaction, judged: Mapping[str, Judgement], cursor: datetime) -> Claimed:
    """Writes what was judged of each job, counts what is final, and moves the cursors."""
    fires.insert_fires(connection, [fire for one in judged.values() for fire in one.fires])
    outcomes: dict[FireOutcome, int] = {}
    changed: set[str] = set()
    for job, one in judged.items():
        for gap in one.gaps:
            fires.insert_gap(connection, gap)
        for fire in one.replaced:
            close_waiting(connection, job, fire, FireOutcome.SKIPPED_OVERLAP, "a newer fire took its place", now=cursor)
        counts = counted(one)
        if counts:
            totals.add(connection, job, [totals.count(FIRES, number, outcome=outcome) for outcome, number in counts.items()])
            totals.touch(connection, job)
            changed.add(job)
        waiting = sum(fire.outcome is FireOutcome.BUFFERED for fire in one.fires)
        counts |= {FireOutcome.BUFFERED: waiting} if waiting else {}
        for outcome, number in counts.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + number
    schedules.move_cursors(connection, judged, cursor)
    return Claimed(outcomes, frozenset(changed))
