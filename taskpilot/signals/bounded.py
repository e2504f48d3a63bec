"""Work that may hang, done in a daemon thread and given up after a time."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """One call in a daemon thread. What it raises is kept, never printed; when the time is over it is left alone."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: list[T] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="taskpilot-telemetry", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether the call came to an end, by a value or an error, within `seconds`."""
        self._thread.join(max(seconds, 0.0))
        return not self._thread.is_alive()

    @property
    def value(self) -> T | None:
        """What the call returned; None where it raised or has not ended."""
        return self._value[0] if self._value else None

    def _run(self) -> None:
        try:
            self._value.append(self._work())
        except BaseException as error:
            self.error = error
