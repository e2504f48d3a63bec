"""Loads the job files of a folder; a broken file does not hide the others."""

import hashlib
import importlib.util
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Final

from taskpilot.config.root import check_trusted
from taskpilot.domain.errors import ConfigurationError, Stop, TaskPilotError
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.text import one_line
from taskpilot.jobs.catalog import BrokenFile, JobCatalog
from taskpilot.jobs.decorator import SPEC_ATTRIBUTE, TOOLS_ATTRIBUTE, job_spec
from taskpilot.tools.decorator import tool_spec

PACKAGE: Final = "taskpilot_jobs"
"""A job file `triage.py` is the module `taskpilot_jobs.triage`; beside it, `from ._shared import x` and `from _shared import x` work."""
_DEFINITION: Final = re.compile(rb"^[ \t]*def[ \t]+([a-z][a-z0-9_]*)[ \t]*\(|\bname[ \t]*=[ \t]*[\"']([a-z][a-z0-9_]*)[\"']", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Loaded:
    path: Path
    specs: tuple[JobSpec, ...]


class _Misdefined(ConfigurationError):
    """A job of a file that could be executed is wrong."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def load_jobs(directory: Path, *, mask: Callable[[str], str] = str) -> JobCatalog:
    """All jobs of the `*.py` files of a folder; files whose name begins with `_` are only imported by the others.

    `mask` removes secrets from the errors of broken files. What a file prints while it is loaded goes to stderr. Raises ConfigurationError
    if the folder is missing, or if another user could write to it.
    """
    directory = directory.absolute()
    if not directory.is_dir():
        raise ConfigurationError(
            f"there is no folder {directory} for job files", hint="make one with `taskpilot init`, or name another one with --jobs DIR"
        )
    check_trusted(directory)
    _prepare_imports(directory)
    results = [_load(path, mask) for path in sorted(directory.glob("*.py")) if not path.name.startswith(("_", ".")) and not path.is_dir()]
    loaded = [result for result in results if isinstance(result, _Loaded)]
    broken = [result for result in results if isinstance(result, BrokenFile)]
    clashes = _clashes(loaded)
    refused = {name for clash in clashes for name in clash.names}
    jobs = {spec.name: spec for file in loaded for spec in file.specs if spec.name not in refused}
    return JobCatalog(
        directory=directory,
        jobs=MappingProxyType(dict(sorted(jobs.items()))),
        broken=tuple(sorted([*broken, *clashes], key=lambda file: (file.path, file.line or 0))),
    )


def _prepare_imports(directory: Path) -> None:
    """Makes the folder a package, and adds it and its parent at the end of the import path."""
    if PACKAGE in sys.modules:
        _forget(sys.modules[PACKAGE].__path__[0])
    package = ModuleType(PACKAGE, "Job files, loaded by path.")
    package.__path__ = [str(directory)]
    sys.modules[PACKAGE] = package
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
        file = getattr(module, "__dict__", {}).get("__file__")
        if name.startswith(f"{PACKAGE}.") or ("." not in name and isinstance(file, str) and os.path.dirname(file) == directory):  # noqa: PTH120 - faster, for a thousand modules
            del sys.modules[name]
    if directory in sys.path:
        sys.path.remove(directory)


def _load(path: Path, mask: Callable[[str], str]) -> _Loaded | BrokenFile:
    source = b""
    name = f"{PACKAGE}.{path.stem}"
    try:
        source = path.read_bytes()
        check_trusted(path)
        with _import_output_on_stderr():
            module = _execute(name, path, source)
        digest = hashlib.sha256(source).hexdigest()
        specs = tuple(replace(spec, file=path, file_digest=digest) for spec in _jobs_of(module))
    except (KeyboardInterrupt, Stop):
        raise
    except BaseException as error:
        sys.modules.pop(name, None)
        return BrokenFile(path, _line(error, path), _cause(error, mask), _names(path, source))
    return _Loaded(path, specs)


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


def _clashes(loaded: Sequence[_Loaded]) -> list[BrokenFile]:
    """For each name that several files define, all of these files."""
    owners: dict[str, list[tuple[Path, JobSpec]]] = {}
    for file in loaded:
        for spec in file.specs:
            owners.setdefault(spec.name, []).append((file.path, spec))
    return [
        BrokenFile(
            path,
            spec.function.__code__.co_firstlineno,
            _clash(name, [str(other) for other, _ in places if other != path]),
            frozenset({name}),
        )
        for name, places in owners.items()
        if len(places) > 1
        for path, spec in places
    ]


def _clash(name: str, others: Sequence[str]) -> str:
    return one_line(f"job {name!r} is also defined in {', '.join(others)}; all are refused, rename one", limit=500)


@contextmanager
def _import_output_on_stderr() -> Iterator[None]:
    """Redirects what is printed, also by child processes, to stderr: stdout is for the command's result."""
    saved = -1
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        saved = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if saved >= 0:
            os.dup2(saved, 1)
            os.close(saved)


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


def _cause(error: BaseException, mask: Callable[[str], str]) -> str:
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except BaseException:
        text = "an error that cannot be shown"
    if isinstance(error, SystemExit):
        text = f"the file calls exit when it is loaded (code {text})"
    if isinstance(error, TaskPilotError):
        return one_line(mask(error.one_line), limit=500)
    return one_line(mask(f"{type(error).__name__}: {text}" if text else type(error).__name__), limit=500)


def _names(path: Path, source: bytes) -> frozenset[str]:
    found = {(match[0] or match[1]).decode("ascii") for match in _DEFINITION.findall(source)}
    return frozenset(found | {path.stem})
