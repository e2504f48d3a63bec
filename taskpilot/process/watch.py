"""The one loop of a supervisor: child, signals, lease, deadline, cancellation, progress."""

import signal
import time
from contextlib import suppress
from typing import Final

from taskpilot.process import child
from taskpilot.process.interrupts import Interrupts
from taskpilot.process.lease import Lease
from taskpilot.process.linux import is_subreaper, set_subreaper
from taskpilot.process.plan import Cause, ChildPlan, Ending, Watch
from taskpilot.process.tree import PreexistingChildren, Tree

_TICK_SECONDS: Final = 0.25
_CANCEL_SECONDS: Final = 0.5

_CAUSES: Final = {signal.SIGINT: Cause.SIGINT, signal.SIGTERM: Cause.SIGTERM, signal.SIGHUP: Cause.SIGHUP}


def supervise(plan: ChildPlan, watch: Watch, *, interrupts: Interrupts | None = None) -> Ending:
    """Runs the plan in a forked child, and returns when the child and all of its descendants are dead.

    Call it from the main thread, and from a process that has no other: a thread does not come along over a fork, but the
    locks that it holds do. Connections to the store are to be closed before. Children that the process already has are
    neither signalled nor reaped.

    Hand in `interrupts` where more than this call has to be safe from signals; a signal that is in there already means
    that the child is not started. Without it, a signal that came too late to matter is raised again on the way out.

    Raises OSError where the output cannot be opened or the system has no process left; then nothing was started.
    """
    if interrupts is not None:
        return _supervise(plan, watch, interrupts)
    with Interrupts() as own:
        ending = _supervise(plan, watch, own)
    if own.unheeded is not None:
        signal.raise_signal(own.unheeded)
    return ending


def _supervise(plan: ChildPlan, watch: Watch, interrupts: Interrupts) -> Ending:
    lease = Lease(watch.lease_seconds)
    if interrupts.first is not None:
        interrupts.acknowledge()
        return Ending(_CAUSES[interrupts.first], None, None, 0.0)
    if watch.deadline_seconds <= 0:
        return Ending(Cause.DEADLINE, None, None, 0.0)
    preexisting = PreexistingChildren.now()
    was_subreaper = is_subreaper()
    set_subreaper(on=True)
    try:
        tree = Tree(child.start(plan, interrupts), preexisting)
        return _Monitor(tree, watch, lease, interrupts).keep()
    finally:
        set_subreaper(on=was_subreaper)


class _Monitor:
    """One child being watched, from its fork to the end of its tree."""

    def __init__(self, tree: Tree, watch: Watch, lease: Lease, interrupts: Interrupts) -> None:
        self._tree = tree
        self._watch = watch
        self._lease = lease
        self._interrupts = interrupts
        self._began = time.monotonic()
        self._cause: Cause | None = None
        self._kill_at = float("inf")
        self._next_tick = self._began + _TICK_SECONDS
        self._next_cancel = self._began + _CANCEL_SECONDS

    def keep(self) -> Ending:
        """Watches until the child's end or until it has to be killed; then the tree dies, whatever happens here."""
        try:
            while True:
                # Signals before the child's end: where both were told to stop at once (systemd), the signal is the cause.
                self._look_at_interrupts()
                if self._tree.main_exit() is None:
                    self._look_at_lease()
                if self._tree.main_exit() is not None or time.monotonic() >= self._kill_at:
                    break
                self._look_at_deadline()
                self._ask_whether_cancelled()
                self._show_progress()
                self._interrupts.wait(self._seconds_to_sleep())
        finally:
            ended = time.monotonic()
            self._tree.kill(self._interrupts)
        left = self._tree.main_exit()
        status, number = (left.status, left.signal) if left is not None else (None, None)
        cause = self._cause or (Cause.SIGNALED if status is None else Cause.EXITED)
        return Ending(cause, status, number, ended - self._began)

    def _look_at_interrupts(self) -> None:
        """The first signal asks the tree to end; any signal while it is ending kills it at once."""
        number = self._interrupts.unheeded
        if number is None:
            return
        several = len(self._interrupts.arrived) > 1
        self._interrupts.acknowledge()
        if self._cause is None:
            self._end_with_grace(_CAUSES[number])
            if not several:
                return
        self._kill_at = 0.0

    def _look_at_lease(self) -> None:
        self._lease.keep(self._watch.renew, self._active)
        if self._lease.over:
            self._cause = Cause.LEASE_LOST
            self._kill_at = 0.0

    def _look_at_deadline(self) -> None:
        if self._cause is None and self._active >= self._watch.deadline_seconds:
            self._end_with_grace(Cause.DEADLINE)

    def _ask_whether_cancelled(self) -> None:
        if self._cause is not None or time.monotonic() < self._next_cancel:
            return
        grace = None
        with suppress(Exception):
            grace = self._watch.cancelled()
        self._next_cancel = time.monotonic() + _CANCEL_SECONDS
        if grace is not None:
            self._end_with_grace(Cause.CANCELLED, grace)

    def _show_progress(self) -> None:
        if time.monotonic() < self._next_tick:
            return
        self._tree.reap_orphans()
        # What shows progress must not end what makes it.
        with suppress(Exception):
            self._watch.tick()
        self._next_tick = time.monotonic() + _TICK_SECONDS

    def _end_with_grace(self, cause: Cause, grace_seconds: float | None = None) -> None:
        self._cause = cause
        self._kill_at = time.monotonic() + (self._watch.grace_seconds if grace_seconds is None else grace_seconds)
        self._tree.terminate()

    def _seconds_to_sleep(self) -> float:
        now = time.monotonic()
        events = [self._next_tick, self._kill_at]
        if self._cause is None:
            events += [self._next_cancel, self._began + self._watch.deadline_seconds]
        return max(0.0, min(min(events) - now, self._lease.wait_seconds))

    @property
    def _active(self) -> float:
        return time.monotonic() - self._began
