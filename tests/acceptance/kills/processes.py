"""Other people's processes: who lives, who is whose child, and waiting until something is so."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def alive(pid: int) -> bool:
    """True for a process that exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The direct children of a process; none where it is gone."""
    try:
        lists = [(thread / "children").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
    return [int(child) for listed in lists for child in listed.split()]


def send(pid: int, number: signal.Signals) -> bool:
    """Signals a process; False where it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def eventually(condition: Callable[[], object], *, seconds: float = 60.0, every: float = 0.005) -> bool:
    """True as soon as the condition is; there is no other way to wait for somebody else's process."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(every)
    return False
