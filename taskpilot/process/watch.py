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
    """Runs the plan in a forked child, and returns when the child and all of its descendants have ended.

    Call it from the main thread of a process that has no other thread: a fork does not copy threads, but it copies the
    locks that they hold. Close connections to the store before. Children that the process already has are neither
    signalled nor reaped.

    Pass `interrupts` where more than this call must be safe from signals; a signal that it already holds means that the
    child is not started. Without it, a signal that came too late to matter is raised again at the end.

    Raises OSError where the output cannot be opened or the system has no process left; then nothing was started.
    """
    if interrupts is not None:
        return _supervise(plan, watch, interrupts)
    with Interrupts() as own:
        ending = _supervise(plan, watch, own)
    if own.unacknowledged is not None:
        signal.raise_signal(own.unacknowledged)
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
        return _Monitor(tree, watch, lease, interrupts).run()
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

    def run(self) -> Ending:
        """Watches until the child ends or must be killed; then kills the tree, also after an error here."""
        try:
            with suppress(Exception):
                self._watch.forked()
            while True:
                # Signals before the child's end: where both got a signal at once (systemd), the signal is the cause.
                self._check_interrupts()
                if self._tree.main_exit() is None:
                    self._check_lease()
                if self._tree.main_exit() is not None or time.monotonic() >= self._kill_at:
                    break
                self._check_deadline()
                self._check_cancelled()
                self._show_progress()
                self._interrupts.wait(self._seconds_to_sleep())
        finally:
            ended = time.monotonic()
            self._tree.kill(self._interrupts)
        left = self._tree.main_exit()
        status, number = (left.status, left.signal) if left is not None else (None, None)
        cause = self._cause or (Cause.SIGNALED if status is None else Cause.EXITED)
        return Ending(cause, status, number, ended - self._began)

    def _check_interrupts(self) -> None:
        """The first signal asks the tree to end; any signal while it is ending kills it at once."""
        number = self._interrupts.unacknowledged
        if number is None:
            return
        several = len(self._interrupts.arrived) > 1
        self._interrupts.acknowledge()
        if self._cause is None:
            self._end_with_grace(_CAUSES[number])
            if not several:
                return
        self._kill_at = 0.0

    def _check_lease(self) -> None:
        self._lease.renew_if_due(self._watch.renew, self._active)
        if self._lease.over:
            self._cause = Cause.LEASE_LOST
            self._kill_at = 0.0

    def _check_deadline(self) -> None:
        if self._cause is None and self._active >= self._watch.deadline_seconds:
            self._end_with_grace(Cause.DEADLINE)

    def _check_cancelled(self) -> None:
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
        # A failing progress display must not end the run.
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
