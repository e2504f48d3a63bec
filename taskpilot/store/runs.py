"""Queries over runs, attempts and fires."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from taskpilot.domain.moments import from_micros, to_micros
from taskpilot.domain.runs import Attempt, LeaseGrant, Owner, Run, RunStatus
from taskpilot.store.fire_tables import fires
from taskpilot.store.records import attempt_of, dumps, run_of
from taskpilot.store.tables import attempts, job_state, runs


def run_row(connection: Connection, run_id: str) -> Row[Any] | None:
    """The row of a run, lease and reservations included."""
    return connection.execute(select(runs).where(runs.c.id == run_id)).first()


def get_run(connection: Connection, run_id: str) -> Run | None:
    """One run."""
    row = run_row(connection, run_id)
    return None if row is None else run_of(row)


def active_runs(connection: Connection, job: str) -> list[Row[Any]]:
    """The job's runs that hold a slot: queued or running; a waiting one holds none."""
    wanted = runs.c.status.in_([RunStatus.QUEUED, RunStatus.RUNNING])
    return list(connection.execute(select(runs).where(runs.c.job == job, wanted).order_by(runs.c.id)))


def all_active_runs(connection: Connection) -> list[Row[Any]]:
    """Every run that is queued or running, of any job."""
    wanted = runs.c.status.in_([RunStatus.QUEUED, RunStatus.RUNNING])
    return list(connection.execute(select(runs).where(wanted).order_by(runs.c.id)))


def count_running(connection: Connection) -> int:
    """How many runs are running, of any job."""
    return connection.execute(select(func.count()).select_from(runs).where(runs.c.status == RunStatus.RUNNING)).scalar() or 0


def orphaned_runs(connection: Connection) -> list[Row[Any]]:
    """Queued runs that no process has, and that stand in no server's queue: what a lost attempt left."""
    orphan = (runs.c.status == RunStatus.QUEUED) & runs.c.lease_token.is_(None) & runs.c.start_after.is_(None)
    return list(connection.execute(select(runs).where(orphan).order_by(runs.c.id)))


def last_endings(connection: Connection, job: str, limit: int) -> list[RunStatus]:
    """How the job's newest ended runs ended, the newest first."""
    wanted = select(runs.c.status).where(runs.c.job == job, runs.c.ended_at.is_not(None)).order_by(runs.c.id.desc()).limit(limit)
    return [RunStatus(status) for status in connection.execute(wanted).scalars()]


def insert_run(connection: Connection, values: dict[str, Any]) -> None:
    """Records a new run."""
    connection.execute(insert(runs).values(values))


def update_run(connection: Connection, run_id: str, **values: Any) -> None:
    """Sets columns of a run."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(**values))


def grant_lease(connection: Connection, grant: LeaseGrant, owner: Owner) -> None:
    """Makes the grant the only one that may write to its run."""
    held = {"host": owner.host, "boot_id": owner.boot_id, "pid": owner.pid, "process_start": owner.process_start}
    update_run(connection, grant.run_id, lease_token=grant.token, lease_expires_at=to_micros(grant.expires_at), owner=dumps(held))


def renew_lease(connection: Connection, grant: LeaseGrant, *, expires_at: datetime, active_micros: int) -> bool:
    """Prolongs a lease that is still the grant's and adds the attempt's active time; False where it is not."""
    own = (runs.c.id == grant.run_id) & (runs.c.lease_token == grant.token)
    done = connection.execute(update(runs).where(own).values(lease_expires_at=to_micros(expires_at)))
    if done.rowcount != 1:
        return False
    set_active(connection, grant.run_id, grant.attempt_id, active_micros)
    return True


def set_active(connection: Connection, run_id: str, attempt_id: str, active_micros: int) -> None:
    """Sets an attempt's active time, and the run's as the sum over its attempts."""
    later = func.max(attempts.c.active_micros, active_micros)
    connection.execute(update(attempts).where(attempts.c.id == attempt_id).values(active_micros=later))
    total = select(func.coalesce(func.sum(attempts.c.active_micros), 0)).where(attempts.c.run_id == run_id).scalar_subquery()
    update_run(connection, run_id, active_micros=total)


def insert_attempt(connection: Connection, grant: LeaseGrant, *, started_at: datetime, file_digest: str) -> None:
    """Records the start of an attempt."""
    connection.execute(
        insert(attempts).values(
            id=grant.attempt_id,
            run_id=grant.run_id,
            number=grant.attempt,
            status=RunStatus.RUNNING,
            started_at=to_micros(started_at),
            file_digest=file_digest,
        )
    )


def close_attempt(connection: Connection, attempt_id: str, **values: Any) -> bool:
    """Sets an attempt's end where it has none yet; False where it had one."""
    still_open = (attempts.c.id == attempt_id) & attempts.c.ended_at.is_(None)
    return connection.execute(update(attempts).where(still_open).values(**values)).rowcount == 1


def open_attempt(connection: Connection, run_id: str) -> Attempt | None:
    """The run's attempt that has no end yet."""
    wanted = select(attempts).where(attempts.c.run_id == run_id, attempts.c.ended_at.is_(None)).order_by(attempts.c.number.desc())
    row = connection.execute(wanted).first()
    return None if row is None else attempt_of(row)


def attempts_of(connection: Connection, run_id: str) -> list[Attempt]:
    """All attempts of a run, the first one first."""
    return [attempt_of(row) for row in connection.execute(select(attempts).where(attempts.c.run_id == run_id).order_by(attempts.c.number))]


def previous_fire(connection: Connection, job: str, before: datetime | None) -> datetime | None:
    """The latest claimed fire of the job before an instant; None where there is none."""
    wanted = select(func.max(fires.c.scheduled_for)).where(fires.c.job == job)
    if before is not None:
        wanted = wanted.where(fires.c.scheduled_for < to_micros(before))
    micros = connection.execute(wanted).scalar()
    return None if micros is None else from_micros(micros)


def job_state_row(connection: Connection, job: str) -> Row[Any] | None:
    """The job's last values."""
    return connection.execute(select(job_state).where(job_state.c.job == job)).first()
