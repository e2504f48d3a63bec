"""Files written whole or not at all, and locks between processes with a bounded wait."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_POLL_SECONDS: Final = 0.005
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def atomic_write(target: Path, data: bytes, *, mode: int = 0o600, durable: bool = False, follow: bool = True) -> None:
    """Puts a file in place in one step: a reader sees the old file or the new one, never half of it. Raises OSError.

    `durable`: it is on the disk before it takes its name. `follow` False: refuses a folder that is a link, where a job could have put one.
    """
    folder = os.open(target.parent, os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        temporary = f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}"
        descriptor = os.open(temporary, _NEW, mode, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if mode & 0o077:
                    # The umask would remove the permission of other users to read.
                    os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(descriptor)
            os.rename(temporary, target.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def write_new(path: Path, text: str, *, mode: int = 0o600) -> bool:
    """Whether the file was written: an existing file stays as it is, also a link that leads nowhere. Raises OSError."""
    try:
        descriptor = os.open(path, _NEW, mode)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return True


@dataclass
class WaitBudget:
    """How long several waits may take together, and how long they took so far."""

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
    """Whether the lock was got in the time that is left; held until the block ends, or our process ends. Never raises OSError."""
    descriptor = None
    with waits.counted(), suppress(OSError):
        descriptor = take_lock(path, waits.left)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def take_lock(path: Path, seconds: float) -> int | None:
    """A descriptor that holds the lock until it is closed; None where others held it all the time. Raises OSError."""
    deadline = time.monotonic() + seconds
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    os.close(descriptor)
                    return None
                time.sleep(min(_POLL_SECONDS, left))
            else:
                return descriptor
    except OSError:
        os.close(descriptor)
        raise
