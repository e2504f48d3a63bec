"""Pauses and resumes jobs, and reads the job folder for the ledger."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError, TransitionRefused
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.ledger.claims import Definitions
from taskpilot.ledger.fires import NO_SCHEDULER, begin_and_end_schedules
from taskpilot.ledger.record_outcome import close_paused
from taskpilot.messages.times import paused
from taskpilot.store import schedules, totals
from taskpilot.store.schedules import schedules_in_force
from taskpilot.telemetry.gateway import GatewayUnreachable


def pause_job(deployment: Deployment, job: str, *, by: str, note: str) -> None:
    """Pauses a job. Active runs continue. Raises UsageError for an unknown job, TransitionRefused where it is paused."""
    name = _known(deployment, job)
    with deployment.store.write() as connection:
        pause = schedules.pauses_in_force(connection).get(name)
        if pause is not None:
            raise TransitionRefused(f"job {name} is already {paused(pause)}", hint=f"taskpilot jobs resume {name}")
        schedules.begin_pause(connection, name, by=by, note=note, now=deployment.now())
        totals.mark_dirty(connection, name)


def resume_job(deployment: Deployment, job: str, *, by: str, note: str) -> None:
    """Ends a pause. Nothing is caught up. Raises UsageError or TransitionRefused."""
    name = _known(deployment, job)
    now = deployment.now()
    with deployment.store.write() as connection:
        pause = schedules.pauses_in_force(connection).get(name)
        if pause is None:
            raise TransitionRefused(f"job {name} is not paused")
        force = schedules.schedules_in_force(connection, [name]).get(name)
        if force is not None:
            close_paused(connection, force, pause, now, now, not_met=NO_SCHEDULER)
        schedules.end_pause(connection, name, by=by, note=note, now=now)
        totals.mark_dirty(connection, name)


def _known(deployment: Deployment, job: str) -> str:
    """The name of a job that the folder or the store has: a job whose file is broken can be paused too."""
    with deployment.store.read() as connection:
        recorded = schedules.schedules_in_force(connection, [job]).get(job) or schedules.pauses_in_force(connection).get(job)
    return job if recorded is not None else deployment.job(job).name


def read_definitions(deployment: Deployment, found: JobCatalog | ConfigurationError | None = None) -> Definitions:
    """The job folder, as it was found or as first read. Where it cannot be read, every recorded job is broken."""
    with deployment.store.read() as connection:
        known = schedules_in_force(connection)
    try:
        catalog = deployment.catalog if found is None else found
    except ConfigurationError as error:
        catalog = error
    if isinstance(catalog, ConfigurationError):
        return Definitions({}, dict.fromkeys(known, catalog.one_line), complaints=(catalog.one_line,))
    return Definitions(
        catalog.jobs,
        _broken(catalog, set(known)),
        _changed_at(catalog.directory),
        complaints=tuple(map(str, catalog.broken)),
        loading=catalog.loading,
    )


def follow_definitions(deployment: Deployment, found: JobCatalog | ConfigurationError | None = None) -> Definitions:
    """The same; also updates the recorded schedules and deletes the gateway groups of removed jobs."""
    jobs = read_definitions(deployment, found)
    gone = begin_and_end_schedules(deployment.store, jobs, now=deployment.now())
    if gone and (gateway := deployment.gateway) is not None:
        # doctor reports what cannot be deleted now.
        with suppress(GatewayUnreachable):
            for job in gone:
                gateway.delete(job, seconds=2)
    return jobs


def _broken(catalog: JobCatalog, known: set[str]) -> dict[str, str]:
    """For recorded jobs that the folder does not define: the errors of their files, or of all broken files."""
    found: dict[str, str] = {}
    for job in known - set(catalog.jobs) - catalog.loading:
        to_blame = [file for file in catalog.broken if job in file.names] or catalog.broken
        if to_blame:
            found[job] = "; ".join(map(str, to_blame))
    return found


def _changed_at(directory: Path) -> datetime | None:
    """When a file of the folder, or the folder itself, was written last."""
    try:
        times = [directory.stat().st_mtime, *(path.stat().st_mtime for path in directory.glob("*.py"))]
    except OSError:
        return None
    return datetime.fromtimestamp(max(times), UTC)
