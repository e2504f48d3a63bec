"""What a job file says: the job, its limits and its tools, before anything runs."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from taskpilot.domain.schedule import Schedule

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]
CatchUp = Literal["skip", "last", "all"]
DEFAULT_DEADLINE: Final = timedelta(hours=1)
DEFAULT_CATCH_UP_LIMIT: Final = 10
"""Fires that `catch_up="all"` runs after an outage; a job that wants more says so."""
DEFAULT_STAGGER: Final = timedelta(seconds=10)
"""Between the starts of two runs that catch up, of one job or of several: a restart is no stampede."""

_JOB_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


def is_job_name(text: str) -> bool:
    """Whether a job may be called so."""
    return _JOB_NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Retry:
    """How many attempts a run has in all; a later one goes on from the journal."""

    attempts: int = 1


@dataclass(frozen=True, slots=True, init=False)
class Budget:
    """Ceilings of one run; None is no ceiling of that kind. `usd` is read exactly, from text, an int or a Decimal.

    A ceiling in USD cannot hold for a model without a price: such a run is refused, or, with `unpriced="allow"`, held by the other
    ceilings alone.
    """

    usd: Decimal | None = None
    tokens: int | None = None
    llm_calls: int | None = None
    tool_calls: int | None = None
    unpriced: Literal["refuse", "allow"] = "refuse"

    def __init__(
        self,
        *,
        usd: str | int | Decimal | None = None,
        tokens: int | None = None,
        llm_calls: int | None = None,
        tool_calls: int | None = None,
        unpriced: Literal["refuse", "allow"] = "refuse",
    ) -> None:
        object.__setattr__(self, "usd", None if usd is None else Decimal(usd))
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "llm_calls", llm_calls)
        object.__setattr__(self, "tool_calls", tool_calls)
        object.__setattr__(self, "unpriced", unpriced)
        if unpriced not in ("refuse", "allow"):
            raise ValueError(f"Budget(unpriced={unpriced!r}) is neither 'refuse' nor 'allow'")
        for name in ("usd", "tokens", "llm_calls", "tool_calls"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"Budget({name}={value}) must not be negative")


DEFAULT_BUDGET: Final = Budget(usd=1, llm_calls=200, unpriced="allow")
"""Given to a job that names none, so that no job is without a ceiling."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function that a model may ask for. The function stays callable as it is."""

    name: str
    description: str
    parameters: dict[str, Any]
    """The JSON schema of its arguments, made from its annotations."""
    function: Callable[..., Any]
    idempotent: bool
    """True where calling it again with the same arguments is harmless."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as its decorator describes it."""

    name: str
    function: Callable[..., Any]
    description: str
    schedule: Schedule | None = None
    deadline: timedelta = DEFAULT_DEADLINE
    retry: Retry = Retry()
    overlap: Overlap = "skip"
    catch_up: CatchUp = "last"
    catch_up_window: timedelta | None = None
    """None: half the period, between 2 minutes and 12 hours."""
    catch_up_limit: int = DEFAULT_CATCH_UP_LIMIT
    catch_up_stagger: timedelta = DEFAULT_STAGGER
    start_deadline: timedelta | None = None
    """A fire that has not started so long after its time is missed. None: it waits as long as it takes."""
    jitter: timedelta = timedelta(0)
    """A fire starts up to so much later than its time; its identity stays the nominal time."""
    pause_on_failure: int | None = None
    """So many runs in a row that end badly pause the job."""
    budget: Budget | None = None
    """None: the default budget."""
    model: str | None = None
    tools: tuple[ToolSpec, ...] = field(default=())
    file: Path | None = None
    file_digest: str = ""

    @property
    def ceilings(self) -> Budget:
        """The budget in force: the job's own, or the default one."""
        return self.budget or DEFAULT_BUDGET


@dataclass(frozen=True, slots=True)
class InputMarker:
    """Says of a parameter: its text names a file, or is `-` for standard input."""


INPUT: Final = InputMarker()

InputFile = Annotated[str, INPUT]
"""A path, or `-`. Before the run is claimed, the file is copied beside it, so that every attempt reads the same content."""
