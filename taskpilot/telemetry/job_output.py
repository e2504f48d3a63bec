"""Copies what a job's processes print from output.log to the shared log; the supervisor does it, a little at a time."""

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
"""How many lines of the beginning of one attempt's output go into the shared log."""
BYTES_MAX: Final = 1024 * 1024
"""The same in bytes."""
TAIL_BYTES: Final = 16 * 1024
"""Where more was printed, this much of the end is logged too: a traceback is there."""
_TICK_LINES: Final = 200
_TICK_BYTES: Final = 64 * 1024
"""How much one call of `copy_new` copies, in about 10 ms: the supervisor has a lease to renew. Longer lines are cut."""
_EDGE: Final = 4 * 1024
"""Characters at the end of a cut line that are left out: half of a secret would not be recognized."""
_SHOWN: Final = 8_200
"""Characters of a line that are escaped; a little more than the log keeps of a message, so that the log marks it as cut."""
CEILING_BYTES: Final = 256 * 1024 * 1024
"""A larger output.log could fill the disk."""
KEPT_BYTES: Final = 1024 * 1024
"""How much of the beginning stays of an output that passed the ceiling; later output follows it."""


class JobOutput:
    """The output of one attempt, from the present end of the file."""

    def __init__(
        self,
        path: Path,
        run: RunIdentity,
        log: SharedLogFile,
        lines: EcsLines,
        *,
        logged: bool = True,
        ceiling_bytes: int = CEILING_BYTES,
    ) -> None:
        """`logged` False: the log's level excludes the lines, and only the size of the file is limited."""
        self._path = path
        self._run = run
        self._log = log
        self._lines = lines
        self._is_logged = logged
        self._ceiling = ceiling_bytes
        self._descriptor: int | None = None
        self._logged = 0
        self._in_cut_line = False
        self._begin = self._place = self._size()

    def copy_new(self) -> None:
        """Copies a bounded part of the new output to the log, and cuts a file that is too large. Raises OSError."""
        self._cut()
        if self._is_logged and not self._is_full():
            self._log_some(_TICK_LINES, whole_lines=True)

    @property
    def lost(self) -> int:
        """Lines that could not be written to the shared log."""
        return self._log.lost

    def close(self) -> None:
        """Logs the rest when the processes have ended: up to the limits, then how much was left out, then the end. Never raises."""
        with suppress(Exception):
            self._cut()
            if self._is_logged:
                while not self._is_full() and self._log_some(LINES_MAX, whole_lines=False):
                    pass
                self._log_end()
        with suppress(OSError):
            if self._descriptor is not None:
                os.close(self._descriptor)
        self._log.close()

    def _is_full(self) -> bool:
        return self._logged >= LINES_MAX or self._place - self._begin >= BYTES_MAX

    def _log_some(self, most: int, *, whole_lines: bool) -> bool:
        """Whether there was something. A line without its end is not logged yet, unless it is long or `whole_lines` is False."""
        if self._in_cut_line and not self._skip_line():
            return False
        piece = self._read(self._place, _TICK_BYTES)
        whole = piece.rfind(b"\n") + 1
        if not whole:
            if len(piece) == _TICK_BYTES:
                self._log_line(piece, cut=True)
                self._place += len(piece)
                self._in_cut_line = True
                return True
            if whole_lines or not piece:
                return False
            whole = len(piece)
        for line in piece[:whole].splitlines(keepends=True)[: min(most, LINES_MAX - self._logged)]:
            self._log_line(line)
            self._place += len(line)
        return True

    def _skip_line(self) -> bool:
        """Skips the rest of a line whose beginning is logged; False where its end is not printed yet."""
        while not self._is_full() and (piece := self._read(self._place, _TICK_BYTES)):
            end = piece.find(b"\n") + 1
            self._place += end or len(piece)
            if end:
                self._in_cut_line = False
                return True
        return False

    def _log_end(self) -> None:
        size = self._size()
        start = max(size - TAIL_BYTES, self._place)
        tail = self._read(start, size - start) if size > start else b""
        if start > self._place or self._in_cut_line:
            # It may begin in the middle of a line, or of a secret.
            tail = tail[tail.find(b"\n") + 1 :] if b"\n" in tail else b""
        left = size - self._place - len(tail)
        if left > 0:
            what = f"{left} bytes of output are left out here; `taskpilot runs logs {self._run.run_id} --output` shows what is kept"
            self._append(what, action="output-left-out", level="warning")
        for line in tail.splitlines(keepends=True):
            self._log_line(line)

    def _log_line(self, line: bytes, *, cut: bool = False) -> None:
        self._logged += 1
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
        """Cuts a file that is too large; the job continues to append after what is kept."""
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
        """The size of the file; 0 where it is missing or is no regular file."""
        try:
            there = self._path.lstat()
        except OSError:
            return 0
        return there.st_size if stat.S_ISREG(there.st_mode) else 0

    def _read(self, place: int, size: int) -> bytes:
        if self._descriptor is None:
            # The job can write into this folder: a link or a FIFO there is not read.
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            return b""
        return os.pread(self._descriptor, size, place)
