"""/proc and prctl, which only Linux has."""

import functools
import os
import signal
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """Three fields of /proc/PID/stat."""

    state: str
    parent: int
    start: int
    """Clock ticks after boot: with the pid it names one process for as long as the machine is up."""


def stat_of(pid: int) -> ProcessStat | None:
    """A process as /proc shows it; None where it does not."""
    try:
        # The name of a process may hold spaces and brackets; the fields begin after the last bracket.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return ProcessStat(state=fields[0].decode("ascii"), parent=int(fields[1]), start=int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def children() -> frozenset[int] | None:
    """The direct children of this process, zombies included; None where the system does not list them."""
    try:
        lists = [(thread / "children").read_bytes() for thread in (_PROC / "self" / "task").iterdir()]
    except OSError:
        return _children_by_scan()
    return frozenset(int(pid) for listed in lists for pid in listed.split())


def _children_by_scan() -> frozenset[int] | None:
    """As `children`, for kernels that were built without the list (CONFIG_PROC_CHILDREN)."""
    myself = os.getpid()
    if stat_of(myself) is None:
        return None
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    return frozenset(pid for pid in pids if (stat := stat_of(pid)) is not None and stat.parent == myself)


def erase_environment(names: Collection[str]) -> None:
    """Overwrites these variables where the kernel shows them (/proc/PID/environ), which no change of the environment does.

    A child that is forked afterwards has the overwritten block too. Programs that this process starts still get the variables.
    """
    if sys.platform != "linux" or not any(name in os.environ for name in names):
        return
    try:
        fields = (_PROC / "self" / "stat").read_bytes().rpartition(b")")[2].split()
        begin, end = int(fields[47]), int(fields[48])
        block = (_PROC / "self" / "environ").read_bytes()
    except (OSError, IndexError, ValueError):
        return
    import ctypes

    if end - begin < len(block) or begin == 0:
        return
    place = 0
    for entry in block.split(b"\0"):
        name = os.fsdecode(entry.partition(b"=")[0])
        if name in names and name in os.environ:
            # The C library gets a copy of its own first: it still points to this block.
            os.putenv(name, os.environ[name])
            ctypes.memset(begin + place, 0, len(entry))
        place += len(entry) + 1


_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_GET_CHILD_SUBREAPER: Final = 37


@functools.cache
def _prctl() -> Callable[..., int] | None:
    """The C function, or None where the system has none. Loads ctypes (1.5 to 5 ms) when first needed."""
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        function = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
    function.restype = ctypes.c_int
    prctl: Callable[..., int] = function
    return prctl


def is_subreaper() -> bool:
    """True where this process adopts its orphaned descendants."""
    prctl = _prctl()
    if prctl is None:
        return False
    import ctypes

    answer = ctypes.c_int(0)
    return prctl(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(answer), 0, 0, 0) == 0 and answer.value == 1


def set_subreaper(*, on: bool) -> bool:
    """From now on descendants whose parent died become children of this process. False where the system cannot."""
    prctl = _prctl()
    return prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0


def die_with_parent() -> bool:
    """SIGKILL for this process when its parent ends; the parent may have ended already. False where the system cannot."""
    prctl = _prctl()
    return prctl is not None and prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0


def set_title(title: str) -> bool:
    """What `ps` shows of this process and of what it forks from now on. False where the system cannot.

    The title takes the place of the command line, in the memory that the kernel shows, and is cut to its length.
    """
    prctl = _prctl()
    if prctl is None:
        return False
    import ctypes

    name = ctypes.create_string_buffer(title.encode("ascii", "replace")[:15])
    prctl(_PR_SET_NAME, ctypes.addressof(name), 0, 0, 0)
    try:
        # Fields 48 and 49 of proc(5), counted from the third, which follows the name.
        fields = (_PROC / "self" / "stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
    except (OSError, IndexError, ValueError):
        return False
    if not 0 < start < end:
        # The kernel hides the addresses.
        return False
    text = title.encode("ascii", "replace")[: end - start - 1]
    ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)
    return True
