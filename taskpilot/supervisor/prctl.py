"""The two things that only Linux's prctl can say: adopt my orphans, and let me die with my parent."""

import functools
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
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
    """SIGKILL for this process when its parent ends; the parent may be gone already. False where the system cannot."""
    prctl = _prctl()
    return prctl is not None and prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
