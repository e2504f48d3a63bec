"""Appends whole lines from many processes to a file, also when the disk fills up, and rotates files."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskpilot.files import WaitBudget, file_lock

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""O_NONBLOCK so that a FIFO in the file's place cannot block us; it changes nothing for a regular file."""

ROTATE_BYTES: Final = 20 * 1024 * 1024
"""About 50,000 lines: an editor still opens it."""
_KEPT: Final = 5
"""Older files, `.1` is the newest: a log shipper that was down for a week still finds every line."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is replaced by a new one. All processes that append to the file must use the same lock."""

    lock: Path
    bytes: int = ROTATE_BYTES
    kept: int = _KEPT

    @classmethod
    def in_state_dir(cls, state_dir: Path, *, limit_bytes: int = ROTATE_BYTES) -> "Rotation":
        """With the one lock that all rotated files of a state dir share."""
        return cls(state_dir / "locks" / "rotation.lock", limit_bytes)


class SharedLogFile:
    """A file (0600, in a folder of 0700) that lines are added to, each in one write; opened at the first line.

    A file that was renamed or removed by a log rotation is opened again. With a `rotation`, the process whose line reaches the limit
    renames the file, and no line of another process is lost. `on_lost` is called for each line that could not be written.
    """

    def __init__(self, path: Path, *, rotation: Rotation | None = None, on_lost: Callable[[Path, OSError], None] | None = None) -> None:
        self.path = path
        self.lost = 0
        self._rotation = rotation
        self._on_lost = on_lost
        self._descriptor: int | None = None
        self._torn = False
        self._lock = threading.Lock()

    def append(self, line: str) -> bool:
        """Adds one line (its end is added here). False, counted and never an exception, where it could not be written whole."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            try:
                after = self._write(data)
                if after.st_nlink == 0:
                    # Other processes rotated so often meanwhile that the file with our line is deleted: write the line again.
                    self._close()
                    after = self._write(data)
                if self._rotation is not None and after.st_size >= self._rotation.bytes:
                    self._rotate(self._rotation)
            except OSError as error:
                self.lost += 1
                if self._on_lost is not None:
                    self._on_lost(self.path, error)
                return False
        return True

    def close(self) -> None:
        """Closes the file; another line opens it again."""
        with self._lock:
            self._close()

    def _write(self, data: bytes) -> os.stat_result:
        descriptor = self._current()
        # After a line that a full disk cut, a line end first: only the cut line is damaged.
        whole = b"\n" + data if self._torn else data
        written = os.write(descriptor, whole)
        if written < len(whole):
            self._torn = True
            written += os.write(descriptor, whole[written:])
            if written < len(whole):
                raise OSError(28, "No space left on device")
        self._torn = False
        return os.fstat(descriptor)

    def _rotate(self, rotation: Rotation) -> None:
        """Renames a full file to `.1`, and older ones accordingly, unless another process does so.

        Others may still write into the renamed file for a moment. It is deleted only after as many rotations as are kept, and a
        writer notices that.
        """
        # In a folder that cannot be changed the file grows; the next line tries again.
        with suppress(OSError), file_lock(rotation.lock, WaitBudget(0.0)) as got:
            if not got or self.path.lstat().st_size < rotation.bytes:
                return
            _rotate(self.path, rotation.kept)
            self._close()

    def _current(self) -> int:
        if self._descriptor is not None:
            opened = os.fstat(self._descriptor)
            try:
                there = self.path.lstat()
            except FileNotFoundError:
                there = None
            if there is None or (there.st_ino, there.st_dev) != (opened.st_ino, opened.st_dev):
                self._close()
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, _FLAGS, 0o600)
            except FileNotFoundError:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, _FLAGS, 0o600)
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def append_whole(path: Path, data: bytes, *, limit_bytes: int, kept: int) -> None:
    """Appends all of the data or none of it, into a new file where the old one would grow beyond the limit. Raises OSError.

    Only for a file with one writer at a time (its caller holds a lock): what a full disk cut is taken back.
    """
    with suppress(FileNotFoundError):
        if path.lstat().st_size > max(limit_bytes - len(data), 0):
            _rotate(path, kept)
    descriptor = os.open(path, _FLAGS, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        done = 0
        try:
            while done < len(data):
                done += os.write(descriptor, data[done:])
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _rotate(path: Path, kept: int) -> None:
    """Each file gets the next number; the oldest one is overwritten."""
    files = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, kept + 1))]
    for number in range(kept, 0, -1):
        with suppress(FileNotFoundError):
            files[number - 1].replace(files[number])
