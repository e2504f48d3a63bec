"""Ends the questions to a person that nobody answered in time, and the runs that waited for them; in the caller's transaction.

An answer and an expiry are decided by the write lock: whichever transaction comes first holds.
"""

from collections.abc import Iterable
from datetime import datetime

from taskpilot.domain.decisions import Decision
from taskpilot.domain.events import EventKind
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.domain.tasks import Task, TaskStatus
from taskpilot.domain.times import BootTime, to_micros
from taskpilot.ledger.finish_attempt import end_attempt
from taskpilot.store import listings, runs, tasks, totals
from taskpilot.store.database import Record, Transaction
from taskpilot.store.events import record_event
from taskpilot.store.schedulers import awake_schedulers

Question = Decision | Task


def expire_due(connection: Transaction, *, now: datetime, boot: BootTime, job: str | None = None) -> bool:
    """Expires what is due, of a job or of all, and records the warnings of what is soon; whether there was any."""
    due = tasks.open_questions(connection, due=now, job=job)
    over = [one for one in due if is_over(one, now)]
    for one in due:
        if one not in over and tasks.mark_warned(connection, one):
            event = EventKind.APPROVAL_EXPIRING
            record_event(connection, event, one.job, at=now, run_id=one.run_id, subject=one.id, reason=one.question)
    _expire(connection, over, now)
    for run_id in dict.fromkeys(one.run_id for one in over):
        follow_answers(connection, run_id, now=now, boot=boot)
    return bool(due)


def expire_for_fire(connection: Transaction, job: str, *, now: datetime) -> None:
    """Expires what the waiting runs of a job ask, since a fire of it takes their place; those that ask nothing else end."""
    for row in runs.runs_in(connection, job, RunStatus.WAITING):
        asked = tasks.open_questions(connection, run_id=row.id)
        _expire(connection, asked, now)
        if not is_asked(connection, row.id) and (asked or tasks.expired_of(connection, row.id)):
            _end(connection, row, now)


def is_over(question: Question, now: datetime) -> bool:
    """Whether it is too late to answer."""
    return question.expires_at is not None and question.expires_at <= now


def is_asked(connection: Transaction, run_id: str) -> bool:
    """Whether the run still waits for a person."""
    if tasks.pending_decisions(connection, run_id) or listings.uncertain_steps(connection, run_id):
        return True
    return bool(tasks.task_counts(connection, run_id).get(TaskStatus.REVIEW.value))


def follow_answers(connection: Transaction, run_id: str, *, now: datetime, boot: BootTime) -> bool:
    """Where a run waits and nothing is asked any more: a server continues it; without one it ends, if nobody answered.

    A run with an approval that was not used yet is left to the person who gave it. Gives whether a server continues it.
    """
    row = runs.run_row(connection, run_id)
    if row is None or row.status != RunStatus.WAITING or is_asked(connection, run_id):
        return False
    expired = tasks.expired_of(connection, run_id)
    # One that asks until the next fire makes room for it.
    if awake_schedulers(connection, boot) and not (expired and row.asks_until_fire):
        requeue(connection, row, now)
        return True
    if expired and not tasks.has_unused_approval(connection, run_id):
        _end(connection, row, now)
    return False


def requeue(connection: Transaction, row: Record, now: datetime) -> None:
    """Adds a waiting run to the queue of the server."""
    allowed = max(row.attempts_allowed, row.attempts + 1)
    runs.update_run(connection, row.id, status=RunStatus.QUEUED, start_after=to_micros(now), attempts_allowed=allowed)
    totals.mark_dirty(connection, row.job)


def _expire(connection: Transaction, questions: Iterable[Question], now: datetime) -> None:
    for one in questions:
        tasks.expire_question(connection, one, now=now)


def _end(connection: Transaction, row: Record, now: datetime) -> None:
    reason = tasks.expired_of(connection, row.id)
    assert reason is not None
    end_attempt(connection, row, Outcome(RunStatus.DENIED, reason), now=now, keep_lease=False)
