"""What /proc says about processes, and nothing where there is no /proc."""

import os
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
    """What the kernel says about a process; None where it says nothing."""
    try:
        # The name of a process may hold spaces and brackets; the fields begin after the last bracket.
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return ProcessStat(state=fields[0].decode("ascii"), parent=int(fields[1]), start=int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def children() -> frozenset[int] | None:
    """The direct children of this process, dead ones that nobody reaped among them; None where the system cannot tell."""
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
