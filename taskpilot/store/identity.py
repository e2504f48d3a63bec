"""Whether the file at the store's path is the one that its log (-wal) belongs to.

SQLite applies a log to whatever database lies beside it, and so damages a backup that was copied over a store whose log is still there.
Each backup carries a mark of its own in its header. A small file beside the store holds the mark, and which file and log belong together.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from taskpilot.domain.errors import StoreError
from taskpilot.files import atomic_write
from taskpilot.store.errors import KEPT

ENDING: Final = "-identity"
_MARK_AT, _MARK_BYTES = 60, 4
"""Where SQLite's header has the number of `PRAGMA user_version`."""
_HELD_MAX: Final = 64
_held: dict[str, int] = {}
"""Open descriptors by file number. Not closed while SQLite uses the file: closing one gives back the locks that this process holds."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A file, its log and its mark; None where one is not there."""

    file: str | None
    """Device and inode."""
    log: str | None
    mark: int | None


def identity_of(path: Path) -> Identity:
    """What is at the path now."""
    file = _number(path)
    return Identity(file, _number(log_of(path)), None if file is None else _mark(path, file))


def check_identity(path: Path) -> None:
    """Raises StoreError where the log beside the file was written for another file."""
    if has_foreign_log(path):
        raise StoreError(
            f"{path} was replaced, and the log of the former file is still there: together they are no sound store. {KEPT}",
            hint=f"stop every run and `taskpilot serve`, then `taskpilot db restore FILE`; or move {quote(str(log_of(path)))} away",
        )


def has_foreign_log(path: Path) -> bool:
    """Whether the log beside the file holds rows and was written for another file."""
    now, seen = identity_of(path), _remembered(path)
    with suppress(OSError):
        if seen is not None and now.file is not None and log_of(path).stat().st_size > 0:
            return seen.mark != now.mark or (seen.file != now.file and seen.log is not None and seen.log == now.log)
    return False


def remember(path: Path, seen: Identity) -> None:
    """Writes down which file and log belong together."""
    if seen != _remembered(path):
        # On a disk that is full or read-only, the check is what is lost, not the store.
        with suppress(OSError):
            atomic_write(path.with_name(path.name + ENDING), json.dumps(asdict(seen)).encode())


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log of a database."""
    return path.with_name(path.name + "-wal")


def _remembered(path: Path) -> Identity | None:
    try:
        value = json.loads(path.with_name(path.name + ENDING).read_bytes())
        return Identity(value["file"], value["log"], value["mark"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _number(path: Path) -> str | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return f"{info.st_dev}:{info.st_ino}"


def _mark(path: Path, file: str) -> int | None:
    try:
        if file not in _held:
            # A process of production has one store; tests have many.
            while len(_held) >= _HELD_MAX:
                os.close(_held.pop(next(iter(_held))))
            _held[file] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        return int.from_bytes(os.pread(_held[file], _MARK_BYTES, _MARK_AT), "big")
    except OSError:
        return None
