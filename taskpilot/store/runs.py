"""Queries over runs, attempts and ratings."""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, func, select, update
from sqlalchemy.dialects.sqlite import insert

from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import Attempt, Feedback, FeedbackVerdict, LeaseGrant, Owner, Run, RunStatus
from taskpilot.domain.text import storable
from taskpilot.domain.times import BootTime, from_micros, to_micros
from taskpilot.store import prepared
from taskpilot.store.records import attempt_of, dumps, run_of
from taskpilot.store.tables import attempts, feedback, fires, job_state, runs

# The queries of every attempt are built once: SQLAlchemy takes longer to build a statement than SQLite to run it.
_THE_RUN: Final = runs.c.id == bindparam("the_run")
_THE_ATTEMPT: Final = attempts.c.id == bindparam("the_attempt")
_ACTIVE: Final = (RunStatus.QUEUED, RunStatus.RUNNING)
_SELECT_RUN: Final = select(runs).where(_THE_RUN)
_SELECT_ACTIVE: Final = select(runs).where(runs.c.job == bindparam("the_job"), runs.c.status.in_(_ACTIVE)).order_by(runs.c.id)
_SELECT_OPEN_ATTEMPT: Final = (
    select(attempts).where(attempts.c.run_id == bindparam("the_run"), attempts.c.ended_at.is_(None)).order_by(attempts.c.number.desc())
)
_SELECT_STATE: Final = select(job_state).where(job_state.c.job == bindparam("the_job"))
_SELECT_PREVIOUS_FIRE: Final = select(func.max(fires.c.scheduled_for)).where(
    fires.c.job == bindparam("the_job"), fires.c.scheduled_for < bindparam("before")
)
_LAST_MICROSECOND: Final = 2**63 - 1
"""The largest integer that a column can hold."""
_INSERT_RUN: Final = insert(runs)
_INSERT_ATTEMPT: Final = insert(attempts)
_UPDATE_RUN: Final = update(runs).where(_THE_RUN)
_CLOSE_ATTEMPT: Final = update(attempts).where(_THE_ATTEMPT, attempts.c.ended_at.is_(None))
_SET_ATTEMPT_ACTIVE: Final = (
    update(attempts).where(_THE_ATTEMPT).values(active_micros=func.max(attempts.c.active_micros, bindparam("so_far")))
)
_SUM_ACTIVE: Final = _UPDATE_RUN.values(
    active_micros=select(func.coalesce(func.sum(attempts.c.active_micros), 0))
    .where(attempts.c.run_id == bindparam("the_run"))
    .scalar_subquery()
)


def run_row(connection: Connection, run_id: str) -> Row[Any] | None:
    """The row of a run, lease and reservations included."""
    return connection.execute(_SELECT_RUN, {"the_run": run_id}).first()


class HeldRun(NamedTuple):
    """A run's lease and budget, which are checked before each of its writes."""

    lease_token: str | None
    lease_expires_at: int | None
    ceiling_nano: int | None
    ceiling_tokens: int | None
    ceiling_llm_calls: int | None
    ceiling_tool_calls: int | None
    spent_nano: int
    spent_tokens: int
    reserved_nano: int
    reserved_tokens: int
    llm_calls: int
    tool_calls: int


_SELECT_HELD: Final = select(*(runs.c[name] for name in HeldRun._fields)).where(_THE_RUN)


def held_run(connection: Connection, run_id: str) -> HeldRun | None:
    """What one run may do now."""
    row = prepared.first(connection, _SELECT_HELD, {"the_run": run_id})
    return None if row is None else HeldRun(*row)


_SELECT_CANCEL: Final = select(runs.c.cancel_requested_at, runs.c.cancel_grace_micros).where(_THE_RUN)


class CancelRequest(NamedTuple):
    """That a run was asked to end."""

    grace: timedelta | None
    """How long it may take, where that was said."""


def cancel_request(connection: Connection, run_id: str) -> CancelRequest | None:
    """None where nobody asked the run to end; each supervisor reads this twice a second."""
    row = prepared.first(connection, _SELECT_CANCEL, {"the_run": run_id})
    if row is None or row[0] is None:
        return None
    return CancelRequest(None if row[1] is None else timedelta(microseconds=row[1]))


def get_run(connection: Connection, run_id: str) -> Run | None:
    """One run."""
    row = run_row(connection, run_id)
    return None if row is None else run_of(row)


def active_runs(connection: Connection, job: str) -> list[Row[Any]]:
    """The job's runs that hold a slot: queued or running; a waiting one holds none."""
    return list(connection.execute(_SELECT_ACTIVE, {"the_job": job}))


def all_active_runs(connection: Connection) -> list[Row[Any]]:
    """Every run that is queued or running, of any job."""
    return list(connection.execute(select(runs).where(runs.c.status.in_(_ACTIVE)).order_by(runs.c.id)))


def waiting_runs(connection: Connection, job: str | None = None) -> dict[str, str]:
    """The newest run of each job, or of one, that waits for a person."""
    wanted = select(runs.c.job, func.max(runs.c.id).label("run_id")).where(runs.c.status == RunStatus.WAITING).group_by(runs.c.job)
    if job is not None:
        wanted = wanted.where(runs.c.job == job)
    return {row.job: row.run_id for row in connection.execute(wanted)}


def runs_in(connection: Connection, job: str, status: RunStatus) -> list[Row[Any]]:
    """The runs of a job in a state, the oldest first."""
    return list(connection.execute(select(runs).where(runs.c.job == job, runs.c.status == status).order_by(runs.c.id)))


def count_running(connection: Connection) -> int:
    """How many runs are running, of any job."""
    return connection.execute(select(func.count()).select_from(runs).where(runs.c.status == RunStatus.RUNNING)).scalar() or 0


def orphaned_runs(connection: Connection) -> list[Row[Any]]:
    """Queued runs after a lost attempt: no process holds them, and they are in no server's queue."""
    orphan = (runs.c.status == RunStatus.QUEUED) & runs.c.lease_token.is_(None) & runs.c.start_after.is_(None)
    return list(connection.execute(select(runs).where(orphan).order_by(runs.c.id)))


def last_endings(connection: Connection, job: str, limit: int, *, since: datetime | None) -> list[RunStatus]:
    """The states of the job's newest ended runs that ended after `since`, the newest first; without those that nobody answered."""
    answered = runs.c.reason_code != ReasonCode.APPROVAL_EXPIRED
    ended = runs.c.ended_at.is_not(None) if since is None else runs.c.ended_at > to_micros(since)
    wanted = select(runs.c.status).where(runs.c.job == job, ended, answered).order_by(runs.c.id.desc()).limit(limit)
    return [RunStatus(status) for status in connection.execute(wanted).scalars()]


def insert_run(connection: Connection, values: dict[str, Any]) -> None:
    """Records a new run."""
    prepared.execute(connection, _INSERT_RUN, values)


def update_run(connection: Connection, run_id: str, **values: Any) -> None:
    """Sets columns of a run."""
    prepared.execute(connection, _UPDATE_RUN, {"the_run": run_id, **values})


def grant_lease(connection: Connection, grant: LeaseGrant, owner: Owner, **state: Any) -> None:
    """Gives the run's lease to the grant, and sets these columns of the run."""
    held = {"host": owner.host, "boot_id": owner.boot_id, "pid": owner.pid, "process_start": owner.process_start}
    lease = {"lease_token": grant.token, "lease_expires_at": grant.expires_at.micros, "owner": dumps(held)}
    update_run(connection, grant.run_id, **state, **lease)


def renew_lease(connection: Connection, grant: LeaseGrant, *, expires_at: BootTime, active_micros: int) -> bool:
    """Prolongs a lease that is still the grant's and adds the attempt's active time; False where it is not."""
    own = (runs.c.id == grant.run_id) & (runs.c.lease_token == grant.token)
    done = connection.execute(update(runs).where(own).values(lease_expires_at=expires_at.micros))
    if done.rowcount != 1:
        return False
    set_active(connection, grant.run_id, grant.attempt_id, active_micros)
    return True


def set_active(connection: Connection, run_id: str, attempt_id: str, active_micros: int) -> None:
    """Sets an attempt's active time, and the run's as the sum over its attempts."""
    prepared.execute(connection, _SET_ATTEMPT_ACTIVE, {"the_attempt": attempt_id, "so_far": active_micros})
    prepared.execute(connection, _SUM_ACTIVE, {"the_run": run_id})


def insert_attempt(connection: Connection, grant: LeaseGrant, *, started_at: datetime, file_digest: str) -> None:
    """Records the start of an attempt."""
    prepared.execute(
        connection,
        _INSERT_ATTEMPT,
        {
            "id": grant.attempt_id,
            "run_id": grant.run_id,
            "number": grant.attempt,
            "status": RunStatus.RUNNING,
            "started_at": to_micros(started_at),
            "file_digest": file_digest,
        },
    )


def close_attempt(connection: Connection, attempt_id: str, **values: Any) -> bool:
    """Sets an attempt's end where it has none yet; False where it had one."""
    return prepared.execute(connection, _CLOSE_ATTEMPT, {"the_attempt": attempt_id, **values}) == 1


def open_attempt(connection: Connection, run_id: str) -> Attempt | None:
    """The run's attempt that has no end yet."""
    row = connection.execute(_SELECT_OPEN_ATTEMPT, {"the_run": run_id}).first()
    return None if row is None else attempt_of(row)


def attempts_of(connection: Connection, run_id: str) -> list[Attempt]:
    """All attempts of a run, the oldest first."""
    return [attempt_of(row) for row in connection.execute(select(attempts).where(attempts.c.run_id == run_id).order_by(attempts.c.number))]


def previous_fire(connection: Connection, job: str, before: datetime | None) -> datetime | None:
    """The latest claimed fire of the job before an instant; None where there is none."""
    limit = _LAST_MICROSECOND if before is None else to_micros(before)
    found = prepared.first(connection, _SELECT_PREVIOUS_FIRE, {"the_job": job, "before": limit})
    return None if found is None or found[0] is None else from_micros(found[0])


def job_state_row(connection: Connection, job: str) -> Row[Any] | None:
    """The job's last values."""
    return connection.execute(_SELECT_STATE, {"the_job": job}).first()


def feedback_on(connection: Connection, run_id: str) -> Feedback | None:
    """The rating of a run; None where it has none."""
    row = connection.execute(select(feedback).where(feedback.c.run_id == run_id)).first()
    if row is None:
        return None
    return Feedback(row.run_id, FeedbackVerdict(row.verdict), row.given_by, from_micros(row.given_at), row.note)


def record_feedback(connection: Connection, given: Feedback) -> None:
    """Records the rating of a run in place of an earlier one."""
    values = {
        "verdict": given.verdict,
        "given_by": storable(given.given_by),
        "given_at": to_micros(given.given_at),
        "note": storable(given.note),
    }
    statement = insert(feedback).values(run_id=given.run_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["run_id"], set_=values))
