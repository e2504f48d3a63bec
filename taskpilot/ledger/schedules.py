"""Keeps the record of schedules up to the definitions: which one a job has, and what the one before had open."""

from datetime import datetime

from taskpilot.domain.fires import ScheduleInForce
from taskpilot.domain.runs import FireOutcome
from taskpilot.ledger.claims import Definitions
from taskpilot.ledger.closing import close_open
from taskpilot.store import schedules
from taskpilot.store.database import Store, Transaction


def begin_and_end_schedules(store: Store, jobs: Definitions, *, now: datetime) -> list[str]:
    """Brings the record of schedules up to the definitions; gives the jobs that are gone from the folder.

    A new job is due from now on. A changed schedule never catches up: what the old one had open is missed.
    """
    with store.read() as connection:
        known = schedules.schedules_in_force(connection)
    texts = {job: spec.schedule.describe() for job, spec in jobs.specs.items() if spec.schedule is not None}
    ended = [job for job, force in known.items() if job not in jobs.broken and texts.get(job) != force.schedule]
    new = {job: text for job, text in texts.items() if job not in known or job in ended}
    if ended or new:
        with store.write() as connection:
            current = schedules.schedules_in_force(connection)
            for job in ended:
                # Another scheduler may have done the same since.
                if current.get(job) == known[job]:
                    end_schedule(connection, known[job], jobs.changed_at, now)
                    del current[job]
            schedules.begin_schedules(connection, {job: text for job, text in new.items() if job not in current}, now)
    return [job for job in known if not jobs.knows(job)]


def end_schedule(connection: Transaction, old: ScheduleInForce, changed_at: datetime | None, now: datetime) -> None:
    """Moves a schedule to the past as of the change; its open fires are missed."""
    assert old.cursor is not None
    until = min(max(changed_at or now, old.cursor), now)
    close_open(connection, old, until, FireOutcome.MISSED, f"its schedule was changed before anybody met it (it was {old.schedule})", now)
    schedules.end_schedule(connection, old, until=until)
