"""A clock for upper bounds: on a busy machine, the time in the queue for a processor is not the program's."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def own_seconds() -> float:
    """`time.monotonic()` without the time that this thread was ready to run and waited for a processor, where Linux counts that."""
    waited = 0
    with suppress(OSError):
        waited = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    return time.monotonic() - waited / 1e9


def is_within(seconds: float, action: Callable[[], object], *, tries: int = 8) -> bool:
    """Whether one of the calls took less. A program that waits for longer does so each time; a busy machine only now and then."""
    for _ in range(tries):
        began = own_seconds()
        action()
        if own_seconds() - began < seconds:
            return True
    return False
