"""Whether each job could start, as the server checked it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

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
    columns = (job_checks.c[name] for name in ("job", "checked_at", "deadline_micros", "catch_up_micros", "reason_code", "reason_facts"))
    rows = connection.execute(select(*columns).order_by(job_checks.c.job)).all()
    # One check of the server has one time.
    moment = cache(from_micros)
    duration = cache(_duration)
    return {
        row[0]: JobCheck(row[0], moment(row[1]), reason_of(row) if row[4] else NO_REASON, duration(row[2]), duration(row[3]))
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
