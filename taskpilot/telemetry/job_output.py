"""What a job's processes print, as lines of the shared log: read from output.log by the supervisor, a little at a time."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from taskpilot.domain.events import RunIdentity
from taskpilot.domain.text import printable
from taskpilot.domain.times import utc_now
from taskpilot.telemetry.ecs import EcsLines
from taskpilot.telemetry.log_files import SharedLogFile

LOGGER: Final = "job.output"
LINES_MAX: Final = 2_000
"""Lines of one attempt that go into the shared log from the beginning of its output."""
BYTES_MAX: Final = 1024 * 1024
"""The same in bytes."""
TAIL_BYTES: Final = 16 * 1024
"""Where more was printed, this much of the end is told too: the traceback stands there."""
_TICK_LINES: Final = 200
_TICK_BYTES: Final = 64 * 1024
"""What one look may take, which is about 10 ms: the supervisor has a lease to renew. Longer lines are cut."""
_EDGE: Final = 4 * 1024
"""Characters at the end of a cut line that are left out: half a secret is not recognized."""
_SHOWN: Final = 8_200
"""Characters of a line that are escaped; a little more than a log's message may have, so that its cut is seen."""
CEILING_BYTES: Final = 256 * 1024 * 1024
"""A larger output.log would fill the disk for everybody."""
KEPT_BYTES: Final = 1024 * 1024
"""What stays of the beginning of an output that passed the ceiling; what is printed from then on follows it."""


class JobOutput:
    """The output of one attempt, followed from where the file ends now."""

    def __init__(
        self,
        path: Path,
        run: RunIdentity,
        log: SharedLogFile,
        lines: EcsLines,
        *,
        told: bool = True,
        ceiling_bytes: int = CEILING_BYTES,
    ) -> None:
        """`told` False: the log's level leaves the lines out, and only the size of the file is watched."""
        self._path = path
        self._run = run
        self._log = log
        self._lines = lines
        self._is_told = told
        self._ceiling = ceiling_bytes
        self._descriptor: int | None = None
        self._told = 0
        self._in_cut_line = False
        self._begin = self._place = self._size()

    def look(self) -> None:
        """Tells a bounded part of what is new, and cuts a file that is too large. Raises OSError."""
        self._cut()
        if self._is_told and not self._is_full():
            self._tell_some(_TICK_LINES, whole_lines=True)

    @property
    def lost(self) -> int:
        """Lines that the shared log could not take."""
        return self._log.lost

    def close(self) -> None:
        """Tells the rest, when the processes are gone: up to the limits, then how much was left out, then the end. Never raises."""
        with suppress(Exception):
            self._cut()
            if self._is_told:
                while not self._is_full() and self._tell_some(LINES_MAX, whole_lines=False):
                    pass
                self._tell_the_end()
        with suppress(OSError):
            if self._descriptor is not None:
                os.close(self._descriptor)
        self._log.close()

    def _is_full(self) -> bool:
        return self._told >= LINES_MAX or self._place - self._begin >= BYTES_MAX

    def _tell_some(self, most: int, *, whole_lines: bool) -> bool:
        """Whether there was something. Of a line that has no end yet nothing is told, unless it is long or `whole_lines` is False."""
        if self._in_cut_line and not self._skip_line():
            return False
        piece = self._read(self._place, _TICK_BYTES)
        whole = piece.rfind(b"\n") + 1
        if not whole:
            if len(piece) == _TICK_BYTES:
                self._tell(piece, cut=True)
                self._place += len(piece)
                self._in_cut_line = True
                return True
            if whole_lines or not piece:
                return False
            whole = len(piece)
        for line in piece[:whole].splitlines(keepends=True)[: min(most, LINES_MAX - self._told)]:
            self._tell(line)
            self._place += len(line)
        return True

    def _skip_line(self) -> bool:
        """Goes behind the end of a line of which the beginning is told; False where that is not printed yet."""
        while not self._is_full() and (piece := self._read(self._place, _TICK_BYTES)):
            end = piece.find(b"\n") + 1
            self._place += end or len(piece)
            if end:
                self._in_cut_line = False
                return True
        return False

    def _tell_the_end(self) -> None:
        size = self._size()
        start = max(size - TAIL_BYTES, self._place)
        tail = self._read(start, size - start) if size > start else b""
        if start > self._place or self._in_cut_line:
            # It begins in the middle of a line, and perhaps of a secret.
            tail = tail[tail.find(b"\n") + 1 :] if b"\n" in tail else b""
        left = size - self._place - len(tail)
        if left > 0:
            what = f"{left} bytes of output are left out here; `taskpilot runs logs {self._run.run_id} --output` shows what is kept"
            self._append(what, action="output-left-out", level="warning")
        for line in tail.splitlines(keepends=True):
            self._tell(line)

    def _tell(self, line: bytes, *, cut: bool = False) -> None:
        self._told += 1
        text = line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        if text.strip():
            # Masked before control characters are escaped, and before it is cut.
            shown = self._lines.masked(text)
            self._append(printable((shown[:-_EDGE] if cut else shown)[:_SHOWN]))

    def _append(self, message: str, *, action: str = "job-output", level: str = "info") -> None:
        line = self._lines.line(
            at=utc_now(), level=level, message=message, logger=LOGGER, run=self._run, action=action, foreign=action == "job-output"
        )
        self._log.append(line)

    def _cut(self) -> None:
        """Appending writers go on behind what is kept, wherever they were."""
        if self._size() <= self._ceiling:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                dropped = os.fstat(descriptor).st_size - KEPT_BYTES
                os.ftruncate(descriptor, KEPT_BYTES)
                os.write(descriptor, f"\n[taskpilot: {dropped} bytes of output were dropped here: the file was too large]\n".encode())
        finally:
            os.close(descriptor)
        self._begin, self._place = min(self._begin, KEPT_BYTES), min(self._place, KEPT_BYTES)

    def _size(self) -> int:
        """Of the file that is there now; 0 where it is missing, or something else stands in its place."""
        try:
            there = self._path.lstat()
        except OSError:
            return 0
        return there.st_size if stat.S_ISREG(there.st_mode) else 0

    def _read(self, place: int, size: int) -> bytes:
        if self._descriptor is None:
            # The job can write into this folder: a link or a FIFO that it put there is not read.
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            return b""
        return os.pread(self._descriptor, size, place)
