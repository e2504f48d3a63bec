"""Jobs, limits and tools as a job file defines them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from taskpilot.domain.errors import InvalidOption, TaskPilotError
from taskpilot.domain.options import checked_options
from taskpilot.domain.schedule import Schedule
from taskpilot.domain.text import one_line
from taskpilot.domain.times import parse_duration

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow_all"]
OverlapWaiting = Literal["count", "ignore"]
CatchUp = Literal["skip", "last", "all"]
DEFAULT_DEADLINE: Final = timedelta(hours=1)
NEXT_FIRE: Final = "next_fire"
"""As `approval_timeout` of a job: a question is open until the job's next scheduled time."""
ApprovalTimeout = timedelta | Literal["next_fire"]
DEFAULT_APPROVAL_TIMEOUT: Final = timedelta(hours=24)
_APPROVAL_TIMEOUT_MAX: Final = timedelta(days=365)
DEFAULT_CATCH_UP_LIMIT: Final = 10
"""Fires that `catch_up="all"` runs after an outage; `catch_up_limit` changes it."""
DEFAULT_STAGGER: Final = timedelta(seconds=10)
"""Between the starts of two runs that catch up, of one job or of several, so that a restart does not start all at once."""

DEFAULT_MAX_DELAY: Final = timedelta(minutes=1)
"""Between two attempts; the run counts as running meanwhile."""

_JOB_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


def is_job_name(text: str) -> bool:
    """Whether a job may be called so."""
    return _JOB_NAME.fullmatch(text) is not None


def parse_approval_timeout(value: str | timedelta) -> timedelta:
    """A duration of at most a year. Raises ValueError that shows the form."""
    found = parse_duration(value)
    if found > _APPROVAL_TIMEOUT_MAX:
        raise ValueError(f"{one_line(str(value), limit=60)} is longer than 365d")
    return found


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """How many attempts a run has in all; a later one continues from the journal.

    delay: the wait before the second attempt, "30s"; it doubles before each further one, up to `max_delay` (1 minute, or `delay` where
    that is longer). Without `delay` the wait is drawn from 0 to 2 seconds, doubling up to `max_delay`. The waits do not count towards the
    deadline. on: of the exceptions of the job only these lead to another attempt, and only where trying again can help; all of them where
    none is named. An attempt whose process was lost always leads to another one. Raises InvalidOption that names the option.
    """

    attempts: int = 1
    delay: timedelta | None = None
    max_delay: timedelta = DEFAULT_MAX_DELAY
    on: tuple[type[Exception], ...] = ()

    @checked_options("Retry")
    def __init__(
        self,
        attempts: int = 1,
        delay: str | timedelta | None = None,
        max_delay: str | timedelta | None = None,
        on: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> None:
        _check_count("Retry", "attempts", attempts, least=1)
        first, longest = _duration("delay", delay), _duration("max_delay", max_delay)
        if first is not None and longest is not None and longest < first:
            raise InvalidOption(f"Retry(max_delay={max_delay!r}) is shorter than delay={delay!r}")
        object.__setattr__(self, "attempts", attempts)
        object.__setattr__(self, "delay", first)
        object.__setattr__(self, "max_delay", longest or max(first or DEFAULT_MAX_DELAY, DEFAULT_MAX_DELAY))
        object.__setattr__(self, "on", _exceptions(on))

    def allows(self, *errors: BaseException) -> bool:
        """Whether an attempt that one of these ended may be followed by another one."""
        return not self.on or any(isinstance(error, self.on) for error in errors)


def _duration(option: str, value: str | timedelta | None) -> timedelta | None:
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise InvalidOption(f"Retry({option}=...): {error}") from None


def _exceptions(on: object) -> tuple[type[Exception], ...]:
    kinds = on if isinstance(on, tuple | list) else (on,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise InvalidOption(
                f"Retry(on=...) takes exception classes, such as on=(ConnectionError,), not {one_line(repr(kind), limit=80)}"
            )
        if issubclass(kind, TaskPilotError) and kind.permanent and not kind.__subclasses__():
            raise InvalidOption(f"Retry(on=...) names {kind.__name__}, where trying again cannot help ({kind.__name__}.permanent is True)")
    return tuple(kinds)


@dataclass(frozen=True, slots=True, init=False)
class Budget:
    """Ceilings of one run; None is no ceiling of that kind. `usd` is read exactly, from text, an int or a Decimal.

    A ceiling in USD cannot hold for a model without a price: such a run is refused, or, with `unpriced="allow"`, held by the other
    ceilings alone. Raises InvalidOption that names the option.
    """

    usd: Decimal | None = None
    tokens: int | None = None
    llm_calls: int | None = None
    tool_calls: int | None = None
    unpriced: Literal["refuse", "allow"] = "refuse"

    @checked_options("Budget")
    def __init__(
        self,
        *,
        usd: str | int | Decimal | None = None,
        tokens: int | None = None,
        llm_calls: int | None = None,
        tool_calls: int | None = None,
        unpriced: Literal["refuse", "allow"] = "refuse",
    ) -> None:
        object.__setattr__(self, "usd", _usd(usd))
        for option, count in (("tokens", tokens), ("llm_calls", llm_calls), ("tool_calls", tool_calls)):
            if count is not None:
                _check_count("Budget", option, count, least=0)
            object.__setattr__(self, option, count)
        if unpriced not in ("refuse", "allow"):
            raise InvalidOption(f"Budget(unpriced={unpriced!r}) must be 'refuse' or 'allow'")
        object.__setattr__(self, "unpriced", unpriced)


def _usd(value: object) -> Decimal | None:
    if value is None:
        return None
    try:
        usd = Decimal(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else None
    except ArithmeticError:
        usd = None
    # A float is refused: 0.1 is not exactly a tenth.
    if usd is None or not usd.is_finite() or usd < 0:
        raise InvalidOption(f'Budget(usd={one_line(repr(value), limit=80)}) must be an amount that is not negative, like usd="0.50"')
    return usd


def _check_count(owner: str, option: str, value: object, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidOption(f"{owner}({option}={one_line(repr(value), limit=80)}) must be a whole number, at least {least}")


DEFAULT_BUDGET: Final = Budget(usd=1, llm_calls=200, tool_calls=200, unpriced="allow")
"""Given to a job that names none, so that no job is without a ceiling."""
DEFAULT_TASK_TOOL_CALLS: Final = 20
"""Tool calls that the executor may make for one approved task; `task_tool_calls` changes it."""


class FileProblem(StrEnum):
    """Why a job file cannot be used."""

    ERROR = "error"
    """Python cannot execute it, or a definition in it is wrong."""
    CLASH = "clash"
    """Another file defines a job of the same name."""
    NOT_A_FILE = "not_a_file"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    """The file, or what it defines."""
    TIME = "time"
    SIGNAL = "signal"
    EXITED = "exited"
    FORKED = "forked"
    PRINTED = "printed"
    NO_DEFINITION = "no_definition"
    """Its process gave something else than definitions of jobs."""


def not_loaded(*_arguments: Any, **_named: Any) -> Any:
    """Stands for a function of a job file where only the data of its job is known: the job's own process imports the file."""
    raise RuntimeError("the functions of a job file exist only in the process of a run")


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """A parameter of a job."""

    name: str
    type_text: str
    default_text: str | None
    """As written in Python; None if the parameter is required."""
    required: bool
    input: bool = False
    """True if it names a file that the run reads."""
    form: Any = None
    """The type as JSON, where it is made of standard types alone; None where only the job's file can read its values."""
    default: Any = None
    """The default's JSON value, in a definition that a loader process gave."""
    problem: str | None = None
    """Why the type cannot be read from text, or the default does not fit it."""

    def __str__(self) -> str:
        """Like `inbox: str = 'inbox.jsonl'`."""
        default = "" if self.default_text is None else f" = {self.default_text}"
        return f"{self.name}: {self.type_text}{default}"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function that a model may ask for. The function stays callable as it is."""

    name: str
    description: str
    parameters: dict[str, Any]
    """The JSON schema of its arguments, made from its annotations."""
    function: Callable[..., Any]
    """`not_loaded` outside of the processes of runs."""
    idempotent: bool
    """True where calling it again with the same arguments is harmless."""
    approval_timeout: timedelta | None = None
    """How long a question about a call of it is open; None: as long as the job says."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as its decorator describes it."""

    name: str
    function: Callable[..., Any]
    """`not_loaded` in a definition that a loader process gave."""
    description: str
    schedule: Schedule | None = None
    deadline: timedelta = DEFAULT_DEADLINE
    retry: Retry = Retry()
    overlap: Overlap = "skip"
    overlap_waiting: OverlapWaiting = "count"
    """Whether a fire is skipped while a run of the job waits for a person."""
    approval_timeout: ApprovalTimeout | None = None
    """How long a question to a person is open; None: as long as the settings say."""
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
    task_tool_calls: int = DEFAULT_TASK_TOOL_CALLS
    model: str | None = None
    tools: tuple[ToolSpec, ...] = field(default=())
    notify: tuple[str, ...] | None = None
    """The channels that are told of it; None: those of `[notify] default`."""
    ping_url: str | None = field(default=None, repr=False)
    file: Path | None = None
    file_digest: str = ""
    line: int | None = None
    """Where the function begins in the file."""
    retry_on: tuple[str, ...] = ()
    """The names of the classes in `retry.on`, which a definition that a loader process gave does not have."""
    parameters: tuple[ParameterSpec, ...] | None = None
    """After the context; None: they are read from the function when they are needed."""

    @property
    def is_data(self) -> bool:
        """Whether a loader process gave it: its functions are not here."""
        return self.function is not_loaded

    @property
    def ceilings(self) -> Budget:
        """The budget in force: the job's own, or the default one."""
        return self.budget or DEFAULT_BUDGET


@dataclass(frozen=True, slots=True)
class InputMarker:
    """Marks a parameter whose text names a file, or is `-` for standard input."""


INPUT: Final = InputMarker()

InputFile = Annotated[str, INPUT]
"""A path, or `-`. Before the run is claimed, the file is copied beside it, so that every attempt reads the same content."""
