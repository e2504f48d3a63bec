"""When to renew a lease, and when to give up before it ends."""

from collections.abc import Callable
from typing import Final

from taskpilot.domain.times import boot_seconds


class Lease:
    """A lease that ends by itself unless it is renewed; all times are seconds of the given clock."""

    _RETRY_SHARE: Final = 30
    """After a failure, renewal is tried again after this part of the lease, at most 1 s: short outages of the store are common."""

    def __init__(self, seconds: float, clock: Callable[[], float] = boot_seconds) -> None:
        self._seconds = seconds
        self._clock = clock
        # A sixth, at least a second, is kept for killing the tree; a third where the lease is very short.
        self._usable = seconds - min(max(1.0, seconds / 6), seconds / 3)
        self._granted = clock()
        self._next = self._granted + seconds / 3
        self._last_took = 0.0
        self._refused = False

    @property
    def over(self) -> bool:
        """True when the run must stop: the renewal was refused, or the lease ends so soon that the tree must be killed now."""
        return self._refused or self._clock() - self._granted >= self._usable

    @property
    def wait_seconds(self) -> float:
        """How long the supervisor may sleep before the lease needs it."""
        ends = self._granted + self._usable
        return (min(self._next, ends) if self._may_try(self._next) else ends) - self._clock()

    def renew_if_due(self, renew: Callable[[float], bool], active_seconds: float) -> None:
        """Renews when it is time to; the new lease counts from before the request."""
        before = self._clock()
        if before < self._next or not self._may_try(before) or self.over:
            return
        try:
            renewed = renew(active_seconds)
        except Exception:
            after = self._clock()
            self._next = after + min(1.0, self._seconds / self._RETRY_SHARE)
        else:
            after = self._clock()
            if renewed:
                self._granted, self._next = before, before + self._seconds / 3
            else:
                self._refused = True
        self._last_took = after - before

    def _may_try(self, moment: float) -> bool:
        """False where a renewal that takes as long as the last one would hold the thread past the lease's end."""
        return moment + self._last_took < self._granted + self._usable
