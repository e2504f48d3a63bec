"""A child and all of its descendants: which processes belong to it, and how they are ended."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from taskpilot.process.interrupts import Interrupts
from taskpilot.process.linux import children

KILL_SECONDS: Final = 5.0
"""How long killing a tree is tried: SIGKILL takes a millisecond, except for a process stuck in the kernel or a fork bomb."""


@dataclass(frozen=True, slots=True)
class PreexistingChildren:
    """Children that this process had before it forked its own: `bash -c 'sleep 30 & exec taskpilot ...'` hands some over."""

    pids: frozenset[int]
    sessions: frozenset[int]

    @classmethod
    def now(cls) -> "PreexistingChildren":
        """The children at this moment."""
        pids = children() or frozenset()
        return cls(pids, frozenset({os.getsid(0)} | {session for pid in pids if (session := _session(pid)) is not None}))

    def has(self, pid: int) -> bool:
        """True for such a child, and for its orphan that we adopted: no descendant of our child is in a session that existed before."""
        return pid in self.pids or _session(pid) in self.sessions


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: with a status, or by a signal."""

    status: int | None
    signal: int | None


class Tree:
    """The child `main`, which leads its own session, and its descendants.

    Where this process is a subreaper, a descendant whose parent dies becomes our child. So grandchildren need not be
    found: kill the children, and their children become ours, until there is none. The pid of a process that we have
    not reaped is not used again, and neither is its group's: no signal here can reach another process.
    """

    def __init__(self, main: int, preexisting: PreexistingChildren) -> None:
        self._main = main
        self._preexisting = preexisting
        self._exit: Exit | None = None
        self._reaped = False

    def main_exit(self) -> Exit | None:
        """How the child ended, None while it runs. It stays a zombie, so that its group keeps its number."""
        if self._exit is not None:
            return self._exit
        if hasattr(os, "waitid"):
            try:
                result = os.waitid(os.P_PID, self._main, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                # Other code in this process waited for it; its exit status is lost.
                self._reaped, self._exit = True, _exit_of(None)
                return self._exit
            if result is not None:
                left = result.si_code == os.CLD_EXITED
                self._exit = Exit(result.si_status, None) if left else Exit(None, result.si_status)
        else:
            self._reap(self._main)
        return self._exit

    def terminate(self) -> None:
        """Asks the child and its group to end; a stopped one is continued for it."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            self._signal_main(number)

    def reap_orphans(self) -> None:
        """Reaps descendants that ended after their parent, so that a long run collects no zombies."""
        for pid in self._ours() - {self._main}:
            self._reap(pid)

    def kill(self, interrupts: Interrupts) -> None:
        """Ends every process of the tree and reaps it. One that does not end within KILL_SECONDS (stuck in the kernel) is left."""
        give_up = time.monotonic() + KILL_SECONDS
        self._signal_main(signal.SIGKILL)
        while ours := self._ours():
            for pid in ours:
                kill_with_group(pid)
            reaped = sum(self._reap(pid) for pid in ours)
            if time.monotonic() >= give_up:
                return
            if not reaped:
                interrupts.wait(0.02)

    def _ours(self) -> set[int]:
        found = children()
        if found is None:
            return set() if self._reaped else {self._main}
        return {pid for pid in found if not self._preexisting.has(pid)} | (set() if self._reaped else {self._main})

    def _reap(self, pid: int) -> bool:
        """True where the process has ended and is reaped."""
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
            # Just forked, it may not lead its own group yet.
            if not self._reaped:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(self._main, number)
        except PermissionError:
            pass


def kill_with_group(pid: int) -> None:
    """SIGKILL for a process and its whole group at once, which is faster than a fork bomb; our own group is spared."""
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
    """From the status that waitpid gives."""
    if wait_status is None:
        return Exit(None, None)
    code = os.waitstatus_to_exitcode(wait_status)
    return Exit(code, None) if code >= 0 else Exit(None, -code)
