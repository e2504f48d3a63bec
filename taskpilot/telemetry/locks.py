"""Locks between processes with a bounded wait."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_POLL_SECONDS: Final = 0.005


@dataclass
class WaitBudget:
    """Time that was spent waiting for others, and how much of it may be spent."""

    allowed: float
    spent: float = 0.0

    @property
    def left(self) -> float:
        """Seconds that may still be waited."""
        return max(self.allowed - self.spent, 0.0)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts the time of the block."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.spent += time.monotonic() - start


@contextmanager
def file_lock(path: Path, waits: WaitBudget) -> Iterator[bool]:
    """Whether the lock was got in the time that is left; held until the block ends, or our process does. No OSError comes from it."""
    with waits.counted():
        descriptor = _take(path, waits.left)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _take(path: Path, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError:
        return None
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                os.close(descriptor)
                return None
            time.sleep(min(_POLL_SECONDS, left))
        except OSError:
            os.close(descriptor)
            return None
        else:
            return descriptor
