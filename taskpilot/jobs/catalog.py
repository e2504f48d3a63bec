"""The jobs of a folder, and the files that could not be loaded."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from taskpilot.domain.errors import ConfigurationError, JobLoading, UsageError
from taskpilot.domain.specs import FileProblem, JobSpec
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
    problem: FileProblem = FileProblem.ERROR

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
    loading: frozenset[str] = frozenset()
    """The jobs that files may define which are being loaded at this moment, for the first time."""

    def get(self, name: str) -> JobSpec:
        """The job. Raises UsageError if there is none, or ConfigurationError if a broken file seems to define it."""
        if name in self.jobs:
            return self.jobs[name]
        broken_files = [broken for broken in self.broken if name in broken.names]
        if name in self.loading:
            raise JobLoading(f"the file of job '{one_line(name)}' is being loaded", hint="try again in a few seconds")
        if broken_files:
            raise ConfigurationError(
                problems=[ConfigurationError(f"job '{one_line(name)}' cannot be loaded: {broken}") for broken in broken_files]
            )
        raise UsageError(f"unknown job '{one_line(name, limit=80)}'{self._broken_files()}", hint=self._near(name))

    def knows(self, name: str) -> bool:
        """Whether a job of that name is defined, or a broken file seems to define it."""
        return name in self.jobs or name in self.loading or any(name in broken.names for broken in self.broken)

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


def catalog_of(
    directory: Path, jobs: Iterable[JobSpec], broken: Iterable[BrokenFile], *, loading: frozenset[str] = frozenset()
) -> JobCatalog:
    """The catalog of what the files define. A name that several files define is refused in each of them."""
    owners: dict[str, list[JobSpec]] = {}
    for spec in jobs:
        owners.setdefault(spec.name, []).append(spec)
    clashes = [
        BrokenFile(spec.file or directory, spec.line, _clash(spec, specs), frozenset({name}), FileProblem.CLASH)
        for name, specs in owners.items()
        if len(specs) > 1
        for spec in specs
    ]
    return JobCatalog(
        directory=directory,
        jobs=MappingProxyType({name: specs[0] for name, specs in sorted(owners.items()) if len(specs) == 1}),
        broken=tuple(sorted([*broken, *clashes], key=lambda file: (file.path, file.line or 0))),
        loading=loading - owners.keys(),
    )


def _clash(spec: JobSpec, specs: Sequence[JobSpec]) -> str:
    others = ", ".join(str(other.file) for other in specs if other.file != spec.file)
    return one_line(f"job {spec.name!r} is also defined in {others}; all are refused, rename one", limit=500)
