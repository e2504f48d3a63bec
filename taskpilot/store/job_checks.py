"""Whether each job could start, as the server checked it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from taskpilot.domain.reasons import NO_REASON, Reason
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.records import reason_columns, reason_of
from taskpilot.store.tables import job_checks


@dataclass(frozen=True, slots=True)
class JobCheck:
    """The check of one job."""

    job: str
    checked_at: datetime
    reason: Reason = NO_REASON
    """Why it could not start; none where it could."""
    deadline: timedelta | None = None
    """The job's deadline; None where its file cannot be loaded."""
    catch_up_window: timedelta | None = None
    """How late it may start, where the job says so."""


def job_checks_of(connection: Connection) -> dict[str, JobCheck]:
    """The newest check of each job."""
    rows = connection.execute(select(job_checks).order_by(job_checks.c.job))
    return {
        row.job: JobCheck(
            row.job,
            from_micros(row.checked_at),
            reason_of(row),
            _duration(row.deadline_micros),
            _duration(row.catch_up_micros),
        )
        for row in rows
    }


def replace_job_checks(connection: Connection, checks: Iterable[JobCheck]) -> None:
    """Stores the checks of all jobs; those of jobs that are gone are deleted."""
    connection.execute(delete(job_checks))
    rows = [
        {
            "job": one.job,
            "checked_at": to_micros(one.checked_at),
            "deadline_micros": _micros(one.deadline),
            "catch_up_micros": _micros(one.catch_up_window),
            **reason_columns(one.reason),
        }
        for one in checks
    ]
    if rows:
        connection.execute(insert(job_checks), rows)


def _duration(micros: int | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=micros)


def _micros(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(microseconds=1)
