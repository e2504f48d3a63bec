"""The job files of a folder as data: each changed file is loaded by a process of its own, and what is known is kept in a cache."""

import hashlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from taskpilot.config.caller import process_variables
from taskpilot.config.root import check_trusted
from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.specs import FileProblem, JobSpec, is_job_name
from taskpilot.domain.text import one_line
from taskpilot.domain.version import version
from taskpilot.files import atomic_write
from taskpilot.jobs.catalog import BrokenFile, JobCatalog, catalog_of
from taskpilot.jobs.definitions import definition_of
from taskpilot.jobs.loader import FileUnusable, digest_of, names_in, read_source, text_digest
from taskpilot.jobs.parameters import describe_parameters, given_texts, parse_parameters
from taskpilot.messages.job_files import file_problem
from taskpilot.process import isolated
from taskpilot.process.isolated import ANSWER_BYTES, Answer, HelperEnded, Limits, Trouble

LOAD_SECONDS: Final = 10.0
CACHE_FILE: Final = "job_files.json"
_FORMAT: Final = 1
_BROKEN_SECONDS: Final = 600.0
"""A file that was broken is loaded again after this time, even if nothing has changed: the cause may be outside of the root."""
_DESCRIBE: Final = "taskpilot.jobs.loader:describe_file"
_PROGRESS_SECONDS: Final = 1.0
_PRELOADED: Final = ("taskpilot.context.run_context", "taskpilot.tools.decorator", "pydantic")
"""What nearly every job file imports, once for all files."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is known of one file."""

    digest: str
    files: Mapping[str, str | None] = field(default_factory=dict)
    """What its import read, each with its digest."""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    jobs: tuple[Mapping[str, Any], ...] = ()
    problem: str | None = None
    cause: str = ""
    line: int | None = None
    names: tuple[str, ...] = ()
    """The jobs that the file may define."""
    at: float = 0.0
    beside: str = ""
    """Where it is broken: a digest of the names of the files beside it, since one that it imports may have been missing."""


class JobFolder:
    """The job files below one folder. Threads may share it."""

    def __init__(
        self,
        directory: Path,
        *,
        root: Path,
        state_dir: Path,
        mask: Callable[[str], str] = str,
        drop_environment: tuple[str, ...] = (),
        seconds: float = LOAD_SECONDS,
        saves: bool = True,
    ) -> None:
        """`saves`: whether what was loaded is kept in the state dir."""
        self._saves = saves
        self._directory = directory.absolute()
        self._root = root
        self._cache = state_dir / CACHE_FILE
        self._mask = mask
        self._limits = Limits(seconds=seconds, root=root, drop_environment=drop_environment)
        self._lock = threading.Lock()
        self._kept: dict[Path, _Entry] | None = None
        self._kept_for: list[Any] = []
        self._unsaved = False
        self._made: tuple[dict[Path, _Entry], list[BrokenFile], JobCatalog] | None = None

    def read(
        self, *, again: bool = False, progress: Callable[[JobCatalog], None] | None = None, stop: Callable[[], bool] = bool
    ) -> JobCatalog:
        """All jobs; files that changed are loaded. `again`: so are those that were broken.

        `progress` gets the catalog so far while files are being loaded; a changed file counts as it was before. Raises ConfigurationError
        if the folder is missing, or if another user could write to it.
        """
        sources, unusable = self._sources()
        known = self._entries()
        same = self._kept_for == self._surroundings()
        found = {path: known[path] for path, source in sources.items() if same and self._is_valid(known.get(path), source, again)}
        if (made := self._made) is not None and found == made[0] and unusable == made[1] and len(found) == len(sources):
            return made[2]
        missing = {path: source for path, source in sources.items() if path not in found}

        def catalog() -> JobCatalog:
            before = {path: known[path] for path in missing if path not in found and path in known}
            new = {path for path in missing if path not in found and path not in known}
            names = frozenset(name for path in new for name in names_in(path, missing[path]))
            return self._catalog({**before, **found}, unusable, loading=names)

        told = float("-inf")
        if missing and progress is not None:
            progress(catalog())
            told = time.monotonic()
        for path, entry in self._load(missing, stop):
            found[path] = entry
            if progress is not None and len(found) < len(sources) and time.monotonic() - told >= _PROGRESS_SECONDS:
                progress(catalog())
                told = time.monotonic()
        whole = catalog()
        if not stop():
            self._keep(found, missing or found.keys() != known.keys())
            self._made = (found, unusable, whole)
        return whole

    def find(self, job: str) -> JobCatalog:
        """A catalog in which the job is, if the folder has it; of the changed files only those are loaded whose text has its name."""
        sources, unusable = self._sources()
        known = self._entries()
        found: dict[Path, _Entry] = {}
        word = job.encode("utf-8", "replace")
        same = self._kept_for == self._surroundings()
        asked: dict[Path, bytes] = {}
        for path, source in sources.items():
            entry = known.get(path)
            if word not in source and path.stem != job and not (entry and any(data["name"] == job for data in entry.jobs)):
                continue
            # One that was broken is loaded again: whoever asks for its job may have removed the cause.
            if entry is not None and entry.problem is None and same and self._is_valid(entry, source):
                found[path] = entry
            else:
                asked[path] = source
        found.update(self._load(asked, bool))
        self._keep({**known, **found}, bool(asked))
        return self._catalog(found, [file for file in unusable if job in file.names])

    def known(self) -> JobCatalog:
        """What the cache has, changed since or not: for commands that load no job file. The jobs of other files count as being loaded."""
        sources, unusable = self._sources()
        known = {path: entry for path, entry in self._entries().items() if path in sources}
        unread = frozenset(name for path, source in sources.items() if path not in known for name in names_in(path, source))
        return self._catalog(known, unusable, loading=unread)

    def parameters(self, spec: JobSpec, pairs: Sequence[tuple[str, str]], extra: Mapping[str, Any] | None) -> dict[str, Any]:
        """As `parse_parameters`; values of types that the job's file defines are read by a loader process."""
        texts = given_texts(spec, pairs, extra)
        own = {one.name for one in describe_parameters(spec) if one.form is None and one.problem is None}
        if not spec.is_data or spec.file is None or not own.intersection([*texts, *(extra or {})]):
            return parse_parameters(spec, pairs, extra)
        request = {
            "path": str(spec.file),
            **self._places(),
            "job": spec.name,
            "pairs": [list(pair) for pair in pairs],
            "extra": None if extra is None else dict(extra),
        }
        ((_, answer),) = list(isolated.call_isolated("taskpilot.jobs.loader:parse_given", [request], self._limits))
        if answer.trouble is not None:
            problem, cause = self._troubled(answer)
            raise ConfigurationError(f"job {spec.name!r} cannot be loaded: {BrokenFile(spec.file, None, cause, problem=problem)}")
        found = answer.value
        if "values" in found:
            values: dict[str, Any] = found["values"]
            return values
        kind = UsageError if found["usage"] else ConfigurationError
        raise kind(self._mask(found["error"]), hint=found["hint"])

    def save(self) -> None:
        """Writes the cache where the state dir exists; a read-only one is no error."""
        with self._lock:
            if not (self._saves and self._unsaved) or self._kept is None or not self._cache.parent.is_dir():
                return
            entries = {str(path): asdict(entry) for path, entry in self._kept.items()}
            self._unsaved, surroundings = False, self._kept_for
        with suppress(OSError):
            atomic_write(self._cache, json.dumps({"for": surroundings, "entries": entries}).encode(), follow=False)

    def _places(self) -> dict[str, str]:
        return {"directory": str(self._directory), "state_dir": str(self._cache.parent.absolute())}

    def _paths(self) -> list[Path]:
        if not self._directory.is_dir():
            raise ConfigurationError(
                f"there is no folder {self._directory} for job files",
                hint="make one with `taskpilot init`, or name another one with --jobs DIR",
            )
        check_trusted(self._directory)
        return [path for path in sorted(self._directory.glob("*.py")) if not path.name.startswith(("_", ".")) and not path.is_dir()]

    def _sources(self) -> tuple[dict[Path, bytes], list[BrokenFile]]:
        """The texts of the files, and those that are none."""
        sources: dict[Path, bytes] = {}
        unusable: list[BrokenFile] = []
        for path in self._paths():
            try:
                sources[path] = read_source(path)
            except ConfigurationError as error:
                problem = error.problem if isinstance(error, FileUnusable) else FileProblem.UNREADABLE
                cause = self._mask(one_line(error.one_line, limit=500))
                unusable.append(BrokenFile(path, None, cause, frozenset({path.stem}), problem))
        return sources, unusable

    def _is_valid(self, entry: _Entry | None, source: bytes, again: bool = False) -> bool:
        """Whether everything that the import of a file read is as it was."""
        if entry is None or entry.digest != hashlib.sha256(source).hexdigest():
            return False
        if entry.problem is not None and (again or entry.beside != self._beside() or abs(time.time() - entry.at) > _BROKEN_SECONDS):
            return False
        variables = process_variables()
        withheld = self._limits.drop_environment
        if any(text_digest(variables.get(name)) != digest for name, digest in entry.environment.items() if name not in withheld):
            return False
        return all(digest_of(name) == digest for name, digest in entry.files.items())

    def _load(self, sources: Mapping[Path, bytes], stop: Callable[[], bool]) -> Iterator[tuple[Path, _Entry]]:
        paths = list(sources)
        requests = [{"path": str(path), **self._places()} for path in paths]
        beside, at = self._beside(), time.time()
        try:
            for index, answer in self._answers(requests, stop):
                path = paths[index]
                names = tuple(sorted(names_in(path, sources[path])))
                yield path, self._entry(path, answer, sources[path], names, at, beside)
        except OSError as error:
            raise ConfigurationError(f"no process for loading job files can be started: {error}") from None

    def _answers(self, requests: Sequence[dict[str, str]], stop: Callable[[], bool]) -> Iterator[tuple[int, Answer]]:
        """What became of each; where one ended the helper process of all, those that ran at that time are loaded alone."""
        left = list(range(len(requests)))
        while left and not stop():
            asked = list(left)
            try:
                for place, answer in self._describe([requests[index] for index in asked], stop):
                    left.remove(asked[place])
                    yield asked[place], answer
                return
            except HelperEnded:
                # They are started in their order.
                running, left = left[: self._limits.together], left[self._limits.together :]
            for index in running:
                try:
                    for _, answer in self._describe([requests[index]], stop):
                        yield index, answer
                except HelperEnded:
                    yield index, Answer(trouble=Trouble.SIGNAL, detail="SIGKILL, with the process that started it")

    def _describe(self, requests: Sequence[dict[str, str]], stop: Callable[[], bool]) -> Iterator[tuple[int, Answer]]:
        return isolated.call_isolated(_DESCRIBE, requests, self._limits, preload=_PRELOADED, stop=stop)

    def _entry(self, path: Path, answer: Answer, source: bytes, names: tuple[str, ...], at: float, beside: str) -> _Entry:
        digest = hashlib.sha256(source).hexdigest()

        def broken(problem: FileProblem, cause: str, **more: Any) -> _Entry:
            return _Entry(**{"digest": digest, **more}, problem=problem, cause=cause, names=names, at=at, beside=beside)

        if answer.trouble is not None:
            return broken(*self._troubled(answer))
        try:
            found = answer.value
            if "problem" in found:
                cause = one_line(self._mask(found["cause"]), limit=500)
                return broken(FileProblem(found["problem"]), cause, line=found["line"], **_read_by(found, digest))
            if answer.printed:
                cause = file_problem(FileProblem.PRINTED, one_line(self._mask(answer.printed), limit=80))
                return broken(FileProblem.PRINTED, cause, **_read_by(found, digest))
            jobs = tuple(found["jobs"])
            if not all(is_job_name(definition_of(data, file=path, digest=digest).name) for data in jobs):
                raise ValueError(jobs)
            return _Entry(**_read_by(found, digest), jobs=jobs, names=names, at=at)
        except Exception:
            # The file's own code wrote the answer, or changed what writes it.
            return broken(FileProblem.NO_DEFINITION, file_problem(FileProblem.NO_DEFINITION))

    def _troubled(self, answer: Answer) -> tuple[FileProblem, str]:
        match answer.trouble:
            case Trouble.TIME:
                problem, detail = FileProblem.TIME, f"{self._limits.seconds:g}"
            case Trouble.SIGNAL:
                problem, detail = FileProblem.SIGNAL, answer.detail
            case Trouble.EXITED:
                problem, detail = FileProblem.EXITED, answer.detail
            case _:
                problem, detail = FileProblem.TOO_LARGE, f"{ANSWER_BYTES >> 20} MiB"
        return problem, file_problem(problem, detail)

    def _catalog(
        self, entries: Mapping[Path, _Entry], unusable: Iterable[BrokenFile], *, loading: frozenset[str] = frozenset()
    ) -> JobCatalog:
        specs = [definition_of(data, file=path, digest=entry.digest) for path, entry in sorted(entries.items()) for data in entry.jobs]
        broken = [
            BrokenFile(path, entry.line, entry.cause, frozenset(entry.names), FileProblem(entry.problem))
            for path, entry in entries.items()
            if entry.problem is not None
        ]
        return catalog_of(self._directory, specs, [*broken, *unusable], loading=loading)

    def _entries(self) -> dict[Path, _Entry]:
        with self._lock:
            if self._kept is None:
                self._kept, self._kept_for = self._saved()
            return dict(self._kept)

    def _keep(self, entries: dict[Path, _Entry], changed: object) -> None:
        with self._lock:
            self._kept, self._kept_for = entries, self._surroundings()
            self._unsaved = self._unsaved or bool(changed)
        self.save()

    def _saved(self) -> tuple[dict[Path, _Entry], list[Any]]:
        """The cache, and the surroundings that it is for; nothing where another version wrote it."""
        try:
            found = json.loads(self._cache.read_bytes())
            entries = {Path(path): _Entry(**entry) for path, entry in found["entries"].items()}
            return (entries, found["for"]) if found["for"][0] == _FORMAT else ({}, [])
        except (OSError, ValueError, KeyError, TypeError):
            return {}, []

    def _surroundings(self) -> list[Any]:
        """What every file depends on: the versions, the installed packages, and the .env file."""
        installed = [
            (place, os.stat(place).st_mtime_ns)  # noqa: PTH116
            for place in sys.path
            if place and os.path.isdir(place) and "site-packages" in place  # noqa: PTH112
        ]
        text = json.dumps([version(), platform.python_version(), sys.executable, installed, digest_of(str(self._root / ".env"))])
        return [_FORMAT, str(self._directory), hashlib.sha256(text.encode()).hexdigest()]

    def _beside(self) -> str:
        """A digest of the names of the Python files in the folder and in its parent."""
        names = [str(path) for folder in (self._directory, self._directory.parent) for path in sorted(folder.glob("*.py"))]
        return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def _read_by(found: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """What the import of a file read, of a loader process's answer."""
    return {"digest": found.get("digest", digest), "files": dict(found["files"]), "environment": dict(found["environment"])}
