"""Ends a run on request: asks the process that has it, or ends at once what no process has."""

from datetime import datetime, timedelta
from typing import Final

from taskpilot.domain.moments import to_micros
from taskpilot.domain.runs import Outcome, Reason, Run, RunStatus
from taskpilot.ledger.endings import end_attempt
from taskpilot.store import runs
from taskpilot.store.database import Transaction

GRACE: Final = timedelta(seconds=10)
"""From SIGTERM to SIGKILL."""
BY_PERSON: Final = Outcome(RunStatus.CANCELLED, Reason.CANCELLED_BY_PERSON, "cancelled by a person")
REPLACED: Final = Outcome(RunStatus.CANCELLED, Reason.REPLACED, "a newer fire of its job took its place")


def cancelled_outcome(run: Run) -> Outcome:
    """What a run that was asked to end comes to: by a person's wish, or for a newer fire."""
    return BY_PERSON if run.cancel_grace is None else REPLACED


def ask_to_end(connection: Transaction, run_id: str, *, at_once: bool, now: datetime) -> None:
    """Ends an active run of a job for a newer fire: `cancel_other` with the grace, `terminate_other` without."""
    row = runs.run_row(connection, run_id)
    assert row is not None
    grace = 0 if at_once else GRACE // timedelta(microseconds=1)
    if row.lease_token is None:
        end_attempt(connection, row, REPLACED, now=now, keep_lease=False)
    elif row.cancel_requested_at is None or (row.cancel_grace_micros or 0) > grace:
        runs.update_run(connection, run_id, cancel_requested_at=to_micros(now), cancel_grace_micros=grace)
