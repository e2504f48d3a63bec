"""What a supervisor gets, and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """What the forked child does."""

    main: Callable[[], int]
    """Runs in the child; its return value (0 to 255) is the exit status. What it raises is printed to the output, status 70."""
    root: Path
    """The child's working folder."""
    output: Path
    """Takes stdout and stderr; appended to, made with mode 0600, never reached through a link. Its folder must exist."""
    drop_environment: tuple[str, ...] = ()
    """Names that the child's environment must not have."""
    add_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that the child's environment gets where it lacks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The limits of a child, and the callables that the supervisor asks.

    They run in the supervisor's only thread, between two checks of the child.
    """

    deadline_seconds: float
    """Active seconds that are left; 0 or less: the child is not started at all."""
    renew: Callable[[float], bool]
    """Asked at least every third of the lease, with the attempt's active seconds so far, during the grace too.

    False: the lease is lost. An exception: it could not be renewed, and is tried again until the lease would end.
    It must return within a third of the lease: nothing can be killed while it holds the thread.
    """
    cancelled: Callable[[], float | None]
    """Asked about every 0.5 s: should the run end, and within which grace in seconds? None, or an exception, means no."""
    tick: Callable[[], None]
    """Called about four times a second, for a progress display; its exceptions are swallowed."""
    forked: Callable[[], None] = lambda: None
    """Called once the child runs; it must return at once, and its exceptions are swallowed."""
    grace_seconds: float = 10.0
    """From SIGTERM to SIGKILL."""
    lease_seconds: float = 30.0
    """How long one renewal holds. The lease counts as fresh when `supervise` is called."""


class Cause(StrEnum):
    """Why a child ended."""

    EXITED = "exited"
    SIGNALED = "signaled"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    SIGINT = "sigint"
    SIGTERM = "sigterm"
    SIGHUP = "sighup"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended. Its whole tree has ended by then, except for a process that SIGKILL does not end within seconds."""

    cause: Cause
    """What ended it first. LEASE_LOST wins over any other, since nothing may be written then."""
    exit_status: int | None
    """Of the child, where it exited without being killed, also after the supervisor asked it to end."""
    signal: int | None
    """The signal that killed the child. Where `exit_status` is None too, the child was never started."""
    active_seconds: float
    """From the fork to the child's end, without the time that the machine was suspended."""
