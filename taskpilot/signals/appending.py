"""Files that many processes append whole lines to, and that a full disk cannot break."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""O_NONBLOCK so that a FIFO put in the file's place cannot hang us; a regular file does not mind it."""


class AppendedFile:
    """A file (0600, in a folder of 0700) that lines are added to, each in one write; opened at the first line.

    A file that was renamed or removed by a log rotation is opened anew. `on_lost` hears of each line that could not be written.
    """

    def __init__(self, path: Path, *, on_lost: Callable[[Path, OSError], None] | None = None) -> None:
        self.path = path
        self.lost = 0
        self._on_lost = on_lost
        self._descriptor: int | None = None
        self._torn = False
        self._lock = threading.Lock()

    def append(self, line: str) -> bool:
        """Adds one line (its end is added here). False, counted and never an exception, where it could not be written whole."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            try:
                self._write(data)
            except OSError as error:
                self.lost += 1
                if self._on_lost is not None:
                    self._on_lost(self.path, error)
                return False
        return True

    def close(self) -> None:
        """Lets go of the file; another line opens it again."""
        with self._lock:
            self._forget()

    def _write(self, data: bytes) -> None:
        descriptor = self._current()
        # The rest of a line that a full disk cut is ended first, so that it spoils itself alone.
        whole = b"\n" + data if self._torn else data
        written = os.write(descriptor, whole)
        if written < len(whole):
            self._torn = True
            written += os.write(descriptor, whole[written:])
            if written < len(whole):
                raise OSError(28, "No space left on device")
        self._torn = False

    def _current(self) -> int:
        if self._descriptor is not None:
            opened = os.fstat(self._descriptor)
            try:
                there = self.path.lstat()
            except FileNotFoundError:
                there = None
            if there is None or (there.st_ino, there.st_dev) != (opened.st_ino, opened.st_dev):
                self._forget()
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, _FLAGS, 0o600)
            except FileNotFoundError:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, _FLAGS, 0o600)
        return self._descriptor

    def _forget(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
