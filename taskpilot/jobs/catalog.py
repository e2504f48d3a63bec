"""The jobs of a folder, and the files that could not be loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.text import one_line


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A job file that could not be loaded, or a refused name, with the cause."""

    path: Path
    line: int | None
    """From 1; None if the cause has no line."""
    cause: str
    """One printable line."""
    names: frozenset[str] = field(default=frozenset(), repr=False)
    """The jobs that it may define: its stem, and the functions in its text."""

    def __str__(self) -> str:
        """Like `jobs/triage.py:12: SyntaxError: ...`."""
        where = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{where}: {self.cause}"


@dataclass(frozen=True, slots=True)
class JobCatalog:
    """The content of a folder of job files."""

    directory: Path
    jobs: Mapping[str, JobSpec]
    """By name, sorted."""
    broken: tuple[BrokenFile, ...] = ()
    """Sorted by path."""

    def get(self, name: str) -> JobSpec:
        """The job. Raises UsageError if there is none, or ConfigurationError if a broken file seems to define it."""
        if name in self.jobs:
            return self.jobs[name]
        broken_files = [broken for broken in self.broken if name in broken.names]
        if broken_files:
            raise ConfigurationError(
                problems=[ConfigurationError(f"job '{one_line(name)}' cannot be loaded: {broken}") for broken in broken_files]
            )
        raise UsageError(f"unknown job '{one_line(name, limit=80)}'{self._broken_files()}", hint=self._near(name))

    def knows(self, name: str) -> bool:
        """Whether a job of that name is defined, or a broken file seems to define it."""
        return name in self.jobs or any(name in broken.names for broken in self.broken)

    def with_built_in(self, specs: Sequence[JobSpec]) -> "JobCatalog":
        """The catalog with these jobs too. A job of the folder takes the place of a built-in one, also where its file is broken."""
        more = {spec.name: spec for spec in specs if not self.knows(spec.name)}
        return replace(self, jobs=MappingProxyType(dict(sorted({**self.jobs, **more}.items()))))

    def _near(self, name: str) -> str:
        if close := get_close_matches(name, self.jobs, n=3):
            return f"did you mean {' or '.join(close)}?"
        return f"there are {one_line(', '.join(self.jobs), limit=400)}" if self.jobs else f"{self.directory} defines no job"

    def _broken_files(self) -> str:
        return f"; {len(self.broken)} file(s) could not be loaded: {'; '.join(map(str, self.broken))}" if self.broken else ""
