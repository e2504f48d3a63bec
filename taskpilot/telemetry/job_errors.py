"""The tracebacks of a run's attempts: a short form with the frames of the user's own files, and the whole."""

import json
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = "errors.jsonl"
WHOLE_MAX: Final = 256 * 1024
"""Characters of a whole traceback that are kept: half of its beginning, half of its end."""
SHORT_MAX: Final = 8 * 1024
_FRAMES: Final = 8
"""Frames of one exception in the short form: the innermost."""
_FILE_MAX: Final = 4 * 1024 * 1024
_CHAIN: Final = 4
"""Exceptions of a chain in the short form."""
_OTHERS: Final = tuple(
    f"{Path(folder).resolve()}{os.sep}"
    for folder in (str(Path(__file__).parents[1]), *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
    if folder
)
"""Folders whose files are not the user's own: TaskPilot, Python, and what is installed."""


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt failed, as text with secrets masked; untrusted."""

    attempt: int
    short: str
    whole: str


def keep_error(run_dir: Path, error: BaseException, *, attempt: int, mask: Callable[[str], str]) -> None:
    """Adds the traceback of an attempt to the run's folder. Raises OSError."""
    path = run_dir / FILE
    with suppress(FileNotFoundError):
        if path.lstat().st_size > _FILE_MAX:
            return
    kept = {"attempt": attempt, "short": _cut(mask(short_traceback(error)), SHORT_MAX), "whole": _cut(mask(_whole(error)), WHOLE_MAX)}
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps(kept) + "\n")


def kept_errors(run_dir: Path) -> Iterator[JobError]:
    """What was kept; what cannot be read is left out. The job can write into this folder: no link is followed."""
    try:
        descriptor = os.open(run_dir / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        for raw in file.read(2 * _FILE_MAX).splitlines():
            with suppress(ValueError, KeyError, TypeError):
                value: dict[str, Any] = json.loads(raw)
                yield JobError(int(value["attempt"]), str(value["short"]), str(value["whole"]))


def short_traceback(error: BaseException) -> str:
    """The frames of the user's own files, and the last line; of a cause too. Never raises."""
    try:
        told = traceback.TracebackException.from_exception(error, compact=True)
        one: traceback.TracebackException | None = told
        for left in reversed(range(_CHAIN)):
            if one is None:
                break
            frames = [frame for frame in one.stack if _is_users(frame.filename)]
            one.stack = traceback.StackSummary.from_list(frames[-_FRAMES:])
            if not left:
                one.__cause__ = one.__context__ = None
            one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        return "".join(told.format()).rstrip("\n")
    except Exception:
        return type(error).__name__


def _is_users(name: str) -> bool:
    return not name.startswith("<") and not str(Path(name).resolve()).startswith(_OTHERS)


def _whole(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    except Exception:
        return type(error).__name__


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n[... {len(text) - limit:,} characters are left out here ...]\n{text[-limit // 2 :]}"
