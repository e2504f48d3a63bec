"""Imports one job file into this process, which exists for that file: the process of a run, or a loader process."""

import hashlib
import importlib.util
import inspect
import os
import re
import stat
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from taskpilot.config.root import check_trusted
from taskpilot.domain.errors import ConfigurationError, Stop, TaskPilotError, UsageError
from taskpilot.domain.specs import FileProblem, JobSpec
from taskpilot.domain.text import one_line
from taskpilot.jobs.catalog import BrokenFile
from taskpilot.jobs.decorator import SPEC_ATTRIBUTE, TOOLS_ATTRIBUTE, job_spec
from taskpilot.jobs.definitions import definition_json
from taskpilot.jobs.parameters import parse_parameters
from taskpilot.messages.job_files import file_problem
from taskpilot.tools.decorator import tool_spec

PACKAGE: Final = "taskpilot_jobs"
"""A job file `triage.py` is the module `taskpilot_jobs.triage`; beside it, `from ._shared import x` and `from _shared import x` work."""
FILE_BYTES: Final = 4 << 20
_DIGESTED_BYTES: Final = 64 << 20
"""A larger file that an import reads is known by its size and the time of its change."""
_DEFINITION: Final = re.compile(rb"^[ \t]*def[ \t]+([a-z][a-z0-9_]*)[ \t]*\(|\bname[ \t]*=[ \t]*[\"']([a-z][a-z0-9_]*)[\"']", re.MULTILINE)
_KINDS: Final = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


class FileUnusable(ConfigurationError):
    """A job file cannot be read, or is none."""

    def __init__(self, problem: FileProblem, detail: str) -> None:
        super().__init__(detail if problem is FileProblem.UNREADABLE else file_problem(problem, detail))
        self.problem = problem


class _Misdefined(ConfigurationError):
    """A job of a file that could be executed is wrong."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def read_source(path: Path) -> bytes:
    """The text of a job file. Raises FileUnusable for a FIFO, a device and the like, or ConfigurationError if others can write to it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileUnusable(FileProblem.NOT_A_FILE, _KINDS.get(stat.S_IFMT(status.st_mode), "a folder"))
            source = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise FileUnusable(FileProblem.UNREADABLE, f"{type(error).__name__}: {error}") from None
    if len(source) > FILE_BYTES:
        raise FileUnusable(FileProblem.TOO_LARGE, f"{FILE_BYTES >> 20} MiB")
    check_trusted(path)
    return source


def load_spec(spec: JobSpec, directory: Path) -> JobSpec:
    """The job with its functions, from its file. Raises ConfigurationError where the file cannot be loaded or defines it no more."""
    if not spec.is_data or spec.file is None:
        return spec
    try:
        specs = _load_file(spec.file, read_source(spec.file), directory)
    except (KeyboardInterrupt, Stop):
        raise
    except BaseException as error:
        broken = BrokenFile(spec.file, _line(error, spec.file), cause_of(error))
        raise ConfigurationError(f"job {spec.name!r} cannot be loaded: {broken}") from error
    found = next((one for one in specs if one.name == spec.name), None)
    if found is None:
        raise ConfigurationError(f"{spec.file} does not define the job {spec.name!r} any more")
    return found


def describe_file(request: dict[str, Any]) -> dict[str, Any]:
    """In a loader process: what a job file defines, as JSON, and all that its import read."""
    path, directory = Path(request["path"]), Path(request["directory"])
    forks: list[bool] = []
    os.register_at_fork(after_in_parent=lambda: forks.append(True))
    sys.dont_write_bytecode = True
    _protect(request["state_dir"])
    reads = _Reads()
    found: dict[str, Any] = {}
    try:
        source = read_source(path)
        # Before the import: if a file changes meanwhile, its digest does not fit the next time.
        found["digest"] = hashlib.sha256(source).hexdigest()
        reads.begin()
        found["jobs"] = [definition_json(spec) for spec in _load_file(path, source, directory)]
    except BaseException as error:
        problem = FileProblem.EXITED if isinstance(error, SystemExit) else getattr(error, "problem", FileProblem.ERROR)
        found |= {"problem": problem, "line": _line(error, path), "cause": cause_of(error)}
    reads.end()
    if forks and "problem" not in found:
        found |= {"problem": FileProblem.FORKED, "line": None, "cause": file_problem(FileProblem.FORKED)}
    return {**found, "files": reads.files, "environment": reads.environment}


def parse_given(request: dict[str, Any]) -> dict[str, Any]:
    """In a loader process: the values of a run's parameters, by the annotations in the job's file."""
    path = Path(request["path"])
    _protect(request["state_dir"])
    try:
        specs = _load_file(path, read_source(path), Path(request["directory"]))
        spec = next(one for one in specs if one.name == request["job"])
        return {"values": parse_parameters(spec, [(name, text) for name, text in request["pairs"]], request["extra"])}
    except TaskPilotError as error:
        return {"usage": isinstance(error, UsageError), "error": str(error), "hint": error.hint}
    except BaseException as error:
        return {"usage": False, "error": cause_of(error), "hint": None}


def names_in(path: Path, source: bytes) -> frozenset[str]:
    """The jobs that a file may define, by its name and text."""
    found = {(match[0] or match[1]).decode("ascii") for match in _DEFINITION.findall(source)}
    return frozenset(found | {path.stem})


def digest_of(path: str) -> str | None:
    """What a file that an import reads is known by; None where it is gone or no regular file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called from an audit hook, for each file
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size > _DIGESTED_BYTES:
            return f"{status.st_size}:{status.st_mtime_ns}"
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return hashlib.sha256(file.read()).hexdigest()
    except (OSError, ValueError):
        return None


def text_digest(value: str | None) -> str | None:
    """A variable's value, which may be a secret, by its digest."""
    return None if value is None else hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


_CHANGES: Final = frozenset(
    ("open", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree", "sqlite3.connect")
)
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def _protect(state_dir: str) -> None:
    """Lets no code of this process change the state dir or open the database: a lock there would hold up all runs."""
    below = os.path.realpath(state_dir) + os.sep

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES or (event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITES)):
            return
        for path in arguments[:2]:
            if isinstance(path, str | bytes):
                place = os.path.realpath(os.fsdecode(path).removeprefix("file:").partition("?")[0])
                if (place + os.sep).startswith(below):
                    raise PermissionError(
                        "a job file may not change the state folder when it is loaded: work belongs into the job's function"
                    )

    sys.addaudithook(check)


class _Reads:
    """Notes what an import reads: files, but those of Python and of installed packages, and variables of the environment."""

    def __init__(self) -> None:
        self.files: dict[str, str | None] = {}
        self.environment: dict[str, str | None] = {}
        self._on = False

    def begin(self) -> None:
        get = os._Environ.__getitem__  # noqa: SLF001 - the only place that all reads pass
        environment = self.environment

        def noting(variables: Any, name: Any) -> Any:
            value = None
            try:
                value = get(variables, name)
                return value
            finally:
                if self._on and isinstance(name, str):
                    environment.setdefault(name, text_digest(value))

        os._Environ.__getitem__ = noting  # type: ignore[method-assign]  # noqa: SLF001
        sys.addaudithook(self._note_open)
        self._on = True

    def end(self) -> None:
        self._on = False

    def _note_open(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on or event != "open" or not isinstance(arguments[0], str):
            return
        flags = arguments[2] if len(arguments) > 2 and isinstance(arguments[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR):
            return
        self._on = False
        try:
            path = os.path.realpath(arguments[0])
            if path not in self.files and not _is_installed(path) and (digest := digest_of(path)) is not None:
                self.files[path] = digest
        finally:
            self._on = True


_LIBRARIES: Final = tuple(
    {os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(__file__).resolve().parents[1]) + os.sep}
)
_SYSTEM: Final = ("/proc/", "/sys/", "/dev/")


def _is_installed(path: str) -> bool:
    return path.startswith((*_LIBRARIES, *_SYSTEM)) or f"{os.sep}__pycache__{os.sep}" in path


class _TrustedFinder:
    """Refuses modules in files or folders that another user could change, as job files are refused; not for installed packages."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path, target)
        if found is not None and found.has_location and found.origin and not _is_installed(os.path.realpath(found.origin)):
            for place in (found.origin, os.path.dirname(found.origin), found.cached):  # noqa: PTH120 - for each module
                if place and os.path.exists(place):  # noqa: PTH110
                    check_trusted(Path(place))
        return found


def _load_file(path: Path, source: bytes, directory: Path) -> tuple[JobSpec, ...]:
    _prepare_imports(directory)
    name = f"{PACKAGE}.{path.stem}"
    try:
        module = _execute(name, path, source)
        digest = hashlib.sha256(source).hexdigest()
        return tuple(replace(spec, file=path, file_digest=digest) for spec in _jobs_of(module))
    except BaseException:
        sys.modules.pop(name, None)
        raise


def _prepare_imports(directory: Path) -> None:
    """Makes the folder a package, and adds it and its parent at the end of the import path."""
    if PACKAGE in sys.modules:
        _forget(sys.modules[PACKAGE].__path__[0])
    package = ModuleType(PACKAGE, "Job files, loaded by path.")
    package.__path__ = [str(directory)]
    sys.modules[PACKAGE] = package
    if _TrustedFinder not in sys.meta_path:
        # In front: it asks the finder of the import path, and another finder must not be asked instead.
        sys.meta_path.insert(0, _TrustedFinder)
    if str(directory) not in sys.path:
        sys.path.append(str(directory))
    # In a parent that every user can write to, such as /tmp, others could add modules.
    with suppress(ConfigurationError):
        check_trusted(directory.parent)
        if str(directory.parent) not in sys.path:
            sys.path.append(str(directory.parent))


def _forget(directory: str) -> None:
    """Removes what an earlier load imported from a folder, so that changed files are read again."""
    for name, module in list(sys.modules.items()):
        if "." in name:
            # Of a thousand modules, most: this takes a moment in each run.
            gone = name.startswith(f"{PACKAGE}.")
        else:
            file = getattr(module, "__dict__", {}).get("__file__")
            gone = isinstance(file, str) and os.path.dirname(file) == directory  # noqa: PTH120 - faster
        if gone:
            del sys.modules[name]
    if directory in sys.path:
        sys.path.remove(directory)


def _execute(name: str, path: Path, source: bytes) -> ModuleType:
    """The module. The executed source is the digested one: cached bytecode is neither used nor written."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with warnings.catch_warnings():
        # Without cached bytecode they would be printed at each start, and cron would mail them.
        warnings.simplefilter("ignore", SyntaxWarning)
        code = compile(source, str(path), "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102 - it is meant to run the user's job files
    return module


def _jobs_of(module: ModuleType) -> Sequence[JobSpec]:
    """The jobs that this file defines, without imported ones."""
    functions = {
        id(value): value
        for value in vars(module).values()
        if callable(value) and hasattr(value, SPEC_ATTRIBUTE) and getattr(value, "__module__", None) == module.__name__
    }
    specs: dict[str, JobSpec] = {}
    for function in functions.values():
        line = _first_line(function)
        for tool in getattr(function, TOOLS_ATTRIBUTE, ()):
            with _at_line(_first_line(tool) if getattr(tool, "__module__", None) == module.__name__ else line):
                tool_spec(tool)
        with _at_line(line):
            spec = job_spec(function)
        if spec.name in specs:
            raise _Misdefined(f"two jobs of this file have the name {spec.name!r}", line)
        specs[spec.name] = spec
    return list(specs.values())


@contextmanager
def _at_line(line: int) -> Iterator[None]:
    """Adds the line to a ConfigurationError."""
    try:
        yield
    except ConfigurationError as error:
        raise _Misdefined(error.one_line, line) from error


def _first_line(function: Callable[..., object]) -> int:
    line: int = inspect.unwrap(function).__code__.co_firstlineno
    return line


def _line(error: BaseException, path: Path) -> int | None:
    if isinstance(error, _Misdefined):
        return error.line
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def cause_of(error: BaseException) -> str:
    """One line about what an import raised."""
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except BaseException:
        text = "an error that cannot be shown"
    if isinstance(error, SystemExit):
        text = f"the file calls exit when it is loaded (code {text})"
    if isinstance(error, TaskPilotError):
        return one_line(error.one_line, limit=500)
    return one_line(f"{type(error).__name__}: {text}" if text else type(error).__name__, limit=500)
