"""Who is alive: judged on leases, on processes of this host, and for a queued run on whether a server will start it."""

from collections.abc import Callable
from datetime import datetime

from taskpilot.domain.moments import to_micros
from taskpilot.domain.runs import Owner, RunStatus
from taskpilot.store import runs
from taskpilot.store.database import Record, Transaction
from taskpilot.store.records import owner_of
from taskpilot.store.schedulers import awake_schedulers

IsGone = Callable[[Owner], bool]
"""Whether the process that holds a lease has certainly ended."""


def holds_lease(row: Record, is_gone: IsGone, now: datetime) -> bool:
    """True where a living process has the run."""
    if row.lease_token is None or row.lease_expires_at is None or row.lease_expires_at <= to_micros(now):
        return False
    owner = owner_of(row.owner)
    return owner is None or not is_gone(owner)


def is_active(connection: Transaction, row: Record, is_gone: IsGone, now: datetime) -> bool:
    """True where a living process has the run, or it stands in the queue of a server that is awake."""
    if holds_lease(row, is_gone, now):
        return True
    in_queue = row.status == RunStatus.QUEUED and row.lease_token is None and row.start_after is not None
    return in_queue and bool(awake_schedulers(connection, now))


def active_job_runs(connection: Transaction, is_gone: IsGone, now: datetime) -> dict[str, str]:
    """For each job that has an active run, one of them."""
    return {row.job: row.id for row in runs.all_active_runs(connection) if is_active(connection, row, is_gone, now)}
