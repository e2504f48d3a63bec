"""Pausing a job and resuming it: while it is paused, nothing starts it."""

from taskpilot.domain.errors import TransitionRefused
from taskpilot.ledger.closing import close_paused
from taskpilot.ledger.fires import NOBODY
from taskpilot.operations.house import House
from taskpilot.operations.running import publish_change
from taskpilot.store import schedules, totals


def pause_job(house: House, job: str, *, by: str, note: str) -> str:
    """Pauses a job; gives a sentence. What runs goes on. Raises UsageError for an unknown job, TransitionRefused where it is paused."""
    name = _known(house, job)
    with house.store.write() as connection:
        pause = schedules.pauses_in_force(connection).get(name)
        if pause is not None:
            raise TransitionRefused(f"job {name} is {pause} already; `taskpilot jobs resume {name}` ends that")
        schedules.begin_pause(connection, name, by=by, note=note, now=house.now())
        totals.touch(connection, name)
    publish_change(house, name)
    return f"job {name} is paused: its fires are recorded as paused, what runs goes on; `taskpilot jobs resume {name}` ends it"


def resume_job(house: House, job: str, *, by: str, note: str) -> str:
    """Ends a pause; gives a sentence. Nothing is caught up. Raises UsageError or TransitionRefused."""
    name = _known(house, job)
    now = house.now()
    with house.store.write() as connection:
        pause = schedules.pauses_in_force(connection).get(name)
        if pause is None:
            raise TransitionRefused(f"job {name} is not paused")
        force = schedules.schedules_in_force(connection, [name]).get(name)
        if force is not None:
            close_paused(connection, force, pause, now, NOBODY, now)
        schedules.end_pause(connection, name, by=by, note=note, now=now)
        totals.touch(connection, name)
    publish_change(house, name)
    return f"job {name} runs again: what was due in its pause is not caught up"


def _known(house: House, job: str) -> str:
    """A job that the folder or the record knows: one whose file is broken can be paused too."""
    with house.store.read() as connection:
        recorded = schedules.schedules_in_force(connection, [job]).get(job) or schedules.pauses_in_force(connection).get(job)
    return job if recorded is not None else house.catalog.get(job).name
