"""The job files: each readable, each job fit to run."""

from collections.abc import Iterator
from typing import Final

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line
from taskpilot.jobs.parameters import check_parameters
from taskpilot.operations.doctor.case import Case
from taskpilot.operations.doctor.findings import Code, Finding, unchecked

_VALIDATE: Final = "correct the file, then `taskpilot jobs validate`; the other jobs run meanwhile"


def examine_jobs(case: Case) -> Iterator[Finding]:
    """What is broken, one finding a file or job."""
    if why := case.unsound("jobs_dir"):
        yield unchecked("jobs", why)
        return
    catalog = case.catalog
    if isinstance(catalog, ConfigurationError):
        sentence, _separator, mend = str(catalog).partition("; ")
        yield Finding(Code.JOBS_NO_FOLDER, sentence, mend or "make it a folder that only you can write to, or name another by --jobs DIR")
        return
    for broken in catalog.broken:
        yield Finding(Code.JOBS_BROKEN, str(broken).removeprefix(f"{case.settings.root}/"), _VALIDATE)
    sound = []
    for spec in catalog.jobs.values():
        try:
            check_parameters(spec)
        except ConfigurationError as error:
            yield Finding(Code.JOBS_BROKEN, f"{spec.file}: {error}".removeprefix(f"{case.settings.root}/"), _VALIDATE)
        else:
            sound.append(spec.name)
    if sound:
        yield Finding(Code.JOBS_OK, f"{len(sound)} sound: {one_line(', '.join(sound), limit=300)}")
    elif not catalog.broken and not catalog.jobs:
        yield Finding(Code.JOBS_NONE, f"{catalog.directory} defines no job", "`taskpilot init DIR` makes a first one to copy")
