"""Pushes what a server's ledger changed, in a thread of its own: a gateway that hangs delays no fire."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

EVERY_SECONDS: Final = 15.0


class Telemetry:
    """Calls `push` every 15 s, and soon after `changed`. What it raises is swallowed: what was not delivered is pending in the record."""

    def __init__(self, push: Callable[[], None], *, first: Callable[[], None] = lambda: None, every_seconds: float = EVERY_SECONDS) -> None:
        self._push = push
        self._first = first
        self._every = every_seconds
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskpilot-telemetry", daemon=True)

    def start(self) -> None:
        """From here on it pushes."""
        self._thread.start()

    def changed(self, _jobs: frozenset[str] = frozenset()) -> None:
        """Something is pending."""
        self._wake.set()

    def stop(self, seconds: float) -> None:
        """One last push, within so many seconds."""
        self._over.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        with suppress(Exception):
            self._first()
        while True:
            with suppress(Exception):
                self._push()
            if self._over.is_set():
                return
            self._wake.wait(self._every)
            self._wake.clear()
