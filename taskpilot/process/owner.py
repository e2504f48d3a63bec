"""Which process holds a lease, and whether it has certainly ended."""

import os
from pathlib import Path
from typing import Final

from taskpilot.domain.runs import Owner
from taskpilot.domain.times import boot_id
from taskpilot.process.linux import stat_of

_FIRST_PID_NAMESPACE: Final = "pid:[4026531836]"
"""The kernel's fixed number of the namespace outside of all containers."""

_COMMON_NAMES: Final = frozenset({"", "localhost", "localhost.localdomain"})
"""Host names that many machines have."""


def current_owner() -> Owner:
    """This process. In a container the host's name is followed by its pid namespace, since a pid means nothing outside of it."""
    stat = stat_of(os.getpid())
    return Owner(host=_host(), boot_id=boot_id(), pid=os.getpid(), process_start=stat.start if stat else 0)


def is_gone(owner: Owner) -> bool:
    """True only where it is certain that the process has ended; one that is merely stopped has not.

    For a process of another machine or container, or an unknown one, that is never certain: there the lease decides.
    """
    host = _host()
    if owner.host != host:
        return False
    if owner.boot_id != boot_id():
        # Two machines may have the same name where it is a container's or a default one.
        return bool(owner.boot_id and boot_id()) and "/" not in host and host not in _COMMON_NAMES
    if owner.pid <= 0:
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    stat = stat_of(owner.pid)
    if stat is None:
        return False
    return stat.state in "ZX" or (owner.process_start > 0 and stat.start != owner.process_start)


def _host() -> str:
    name = os.uname().nodename
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return name
    return name if namespace == _FIRST_PID_NAMESPACE else f"{name}/{namespace}"
