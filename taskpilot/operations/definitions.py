"""The jobs of the folder as the ledger wants them: what can be run, and what is broken although the record knows it."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from taskpilot.domain.errors import ConfigurationError
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.ledger.claims import Definitions
from taskpilot.ledger.schedules import begin_and_end_schedules
from taskpilot.operations.house import House
from taskpilot.signals.gateway import GatewayUnreachable, delete_group
from taskpilot.store.schedules import schedules_in_force


def read_definitions(house: House, *, again: bool = False) -> Definitions:
    """The folder as it is, or as it was when it was first read. One that cannot be read breaks every job that the record knows."""
    with house.store.read() as connection:
        known = schedules_in_force(connection)
    try:
        catalog = house.reread_jobs() if again else house.catalog
    except ConfigurationError as error:
        return Definitions({}, dict.fromkeys(known, str(error)), complaints=(str(error),))
    return Definitions(
        catalog.jobs, _broken(catalog, set(known)), _changed_at(catalog.directory), complaints=tuple(map(str, catalog.broken))
    )


def follow_definitions(house: House, *, again: bool = False) -> Definitions:
    """The same, with the record of schedules brought up to it, and the gateway groups of jobs that are gone deleted."""
    jobs = read_definitions(house, again=again)
    gone = begin_and_end_schedules(house.store, jobs, now=house.now())
    url = house.settings.pushgateway_url
    if url is not None:
        # What cannot be deleted now is named by doctor.
        with suppress(GatewayUnreachable):
            for job in gone:
                delete_group(url, house.store.deployment, job, seconds=2)
    return jobs


def _broken(catalog: JobCatalog, known: set[str]) -> dict[str, str]:
    """Of jobs that the record knows and the folder does not define: the files to blame, or all that are broken."""
    found: dict[str, str] = {}
    for job in known - set(catalog.jobs):
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
