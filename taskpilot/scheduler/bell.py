"""A bell that any thread and any signal handler may ring, and that one thread sleeps by."""

from contextlib import suppress
from queue import Empty, SimpleQueue


class Bell:
    """Wakes its sleeper at the next ring, or at once where it rang since the last sleep.

    Not a threading.Event: a signal handler that sets one while the thread that it interrupts is inside of that event waits for itself,
    for ever. SimpleQueue is made to be called again in the middle of its own call.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """Ends the sleep."""
        self._rings.put(None)

    def wait(self, seconds: float) -> None:
        """Sleeps until somebody rings, at most so long. However often it rang, it is one ring."""
        with suppress(Empty):
            self._rings.get(timeout=max(0.0, seconds))
            while True:
                self._rings.get_nowait()
