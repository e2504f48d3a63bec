"""Job folders in tests: as data, and with the functions of one job in this process."""

from pathlib import Path

from taskpilot.domain.specs import JobSpec
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.jobs.folder import JobFolder
from taskpilot.jobs.loader import load_spec


def job_folder(folder: Path, *, seconds: float = 30.0) -> JobFolder:
    """A folder's job files, without a cache on the disk."""
    return JobFolder(folder, root=folder.parent, state_dir=folder.parent / "no_state", seconds=seconds)


def read_folder(folder: Path) -> JobCatalog:
    """What the folder defines."""
    return job_folder(folder).read()


def job_with_functions(folder: Path, name: str) -> JobSpec:
    """A job as its run has it, imported here."""
    return load_spec(read_folder(folder).get(name), folder)
