"""A child and all of its descendants: whose processes are ours, and their end."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from taskpilot.process.interrupts import Interrupts
from taskpilot.process.linux import children

KILL_SECONDS: Final = 5.0
"""So long is tried to kill a tree: SIGKILL takes a millisecond, but for a process stuck in the kernel or a fork bomb."""


@dataclass(frozen=True, slots=True)
class PreexistingChildren:
    """Children that this process had before it forked its own: `bash -c 'sleep 30 & exec taskpilot ...'` hands some over."""

    pids: frozenset[int]
    sessions: frozenset[int]

    @classmethod
    def now(cls) -> "PreexistingChildren":
        """Those that there are."""
        pids = children() or frozenset()
        return cls(pids, frozenset({os.getsid(0)} | {session for pid in pids if (session := _session(pid)) is not None}))

    def has(self, pid: int) -> bool:
        """True for a stranger, and for its orphan that we adopted: the child's descendants are in no session older than it."""
        return pid in self.pids or _session(pid) in self.sessions


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process left: by itself, or by a signal."""

    status: int | None
    signal: int | None


class Tree:
    """The child `main`, which leads a session of its own, and what descends from it.

    Where this process is a subreaper, a descendant whose parent dies becomes our child. So the end of the tree needs no
    look at grandchildren: kill the children, and their children are ours next, until there is none. A pid that we have
    not reaped is not given out again, and neither is its group's: no signal here can meet anybody else.
    """

    def __init__(self, main: int, preexisting: PreexistingChildren) -> None:
        self._main = main
        self._strangers = preexisting
        self._exit: Exit | None = None
        self._reaped = False

    def main_exit(self) -> Exit | None:
        """How the child left, None while it lives. It stays a zombie, so that its group keeps its number."""
        if self._exit is not None:
            return self._exit
        if hasattr(os, "waitid"):
            try:
                result = os.waitid(os.P_PID, self._main, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                # Somebody else in this process waited for it; how it left is lost.
                self._reaped, self._exit = True, _exit_of(None)
                return self._exit
            if result is not None:
                left = result.si_code == os.CLD_EXITED
                self._exit = Exit(result.si_status, None) if left else Exit(None, result.si_status)
        else:
            self._reap(self._main)
        return self._exit

    def terminate(self) -> None:
        """Asks the child and its group to end; one that is stopped is woken up for it."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            self._signal_main(number)

    def reap_orphans(self) -> None:
        """Forgets descendants that ended and whose parent did before, so that a long run gathers no zombies."""
        for pid in self._ours() - {self._main}:
            self._reap(pid)

    def kill(self, interrupts: Interrupts) -> None:
        """Ends every process of the tree and reaps it. One that does not end within KILL_SECONDS (stuck in the kernel) is left."""
        give_up = time.monotonic() + KILL_SECONDS
        self._signal_main(signal.SIGKILL)
        while ours := self._ours():
            for pid in ours:
                self._kill_with_group(pid)
            reaped = sum(self._reap(pid) for pid in ours)
            if time.monotonic() >= give_up:
                return
            if not reaped:
                interrupts.wait(0.02)

    def _ours(self) -> set[int]:
        found = children()
        if found is None:
            return set() if self._reaped else {self._main}
        return {pid for pid in found if not self._strangers.has(pid)} | (set() if self._reaped else {self._main})

    def _reap(self, pid: int) -> bool:
        """True where the process is dead and forgotten now."""
        try:
            reaped, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            reaped, status = pid, None
        if not reaped:
            return False
        if pid == self._main:
            self._reaped = True
            self._exit = self._exit or _exit_of(status)
        return True

    def _signal_main(self, number: int) -> None:
        try:
            os.killpg(self._main, number)
        except ProcessLookupError:
            # Just forked, it may not lead a group of its own yet.
            if not self._reaped:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(self._main, number)
        except PermissionError:
            pass

    @staticmethod
    def _kill_with_group(pid: int) -> None:
        """The whole group in one go, which outruns a fork bomb."""
        with suppress(ProcessLookupError, PermissionError):
            group = os.getpgid(pid)
            if group != os.getpgrp():
                os.killpg(group, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _exit_of(wait_status: int | None) -> Exit:
    """What waitpid said, in our words."""
    if wait_status is None:
        return Exit(None, None)
    code = os.waitstatus_to_exitcode(wait_status)
    return Exit(code, None) if code >= 0 else Exit(None, -code)
