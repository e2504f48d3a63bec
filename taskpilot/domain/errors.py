"""All errors, each with its exit code and whether a retry can help."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from taskpilot.domain.chat import ChatRetry
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.text import said


class TaskPilotError(Exception):
    """Something went wrong in TaskPilot."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    permanent: ClassVar[bool] = True
    """True where doing the same again cannot help."""

    def __init__(self, message: str | None = None, *, hint: str | None = None, problems: Sequence["TaskPilotError"] = ()) -> None:
        super().__init__(message or "; ".join(map(str, problems)) or _first_line(type(self)))
        self.hint = hint
        """The command to type or the key to set that helps; shown on a line of its own, so that it can be copied."""
        self.problems = tuple(problems)
        """Each problem on its own, with its own hint, where several were found at once."""

    @property
    def one_line(self) -> str:
        """Sentence and hint together, for a record, a log line or a mail."""
        if self.problems:
            return "; ".join(problem.one_line for problem in self.problems)
        return f"{str(self).rstrip('.')}; {self.hint}" if self.hint else str(self)


def _first_line(kind: type[BaseException]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


class UsageError(TaskPilotError):
    """The command was called with something unknown or invalid."""

    exit_code = ExitCode.USAGE


class ConfigurationError(TaskPilotError):
    """The configuration is invalid."""

    exit_code = ExitCode.CONFIGURATION

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        problems: Sequence[TaskPilotError] = (),
        setting: str | None = None,
        file: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, problems=problems)
        self.setting = setting
        """What is wrong, as it was written: a key of the settings file, a variable, an option of the command line."""
        self.file = file
        """The settings file that holds the key; None for a variable or an option."""


class InvalidOption(ConfigurationError, ValueError):
    """An option in a job file is unknown or wrong."""


class StoreError(TaskPilotError):
    """The store or the state dir cannot be used."""

    exit_code = ExitCode.STORE


class StoreBusy(TaskPilotError):
    """The store is locked by another process for too long."""

    exit_code = ExitCode.TEMPORARY
    permanent = False


class JobLoading(TaskPilotError):
    """The job's file is being loaded for the first time."""

    exit_code = ExitCode.TEMPORARY
    permanent = False


class TransitionRefused(TaskPilotError):
    """A record cannot go from its state to the one asked for."""

    exit_code = ExitCode.USAGE


class NotFound(TaskPilotError):
    """No such record."""

    exit_code = ExitCode.USAGE


class ModelError(TaskPilotError):
    """A model call did not give a usable answer."""

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, retries: tuple[ChatRetry, ...] = (), maybe_billed: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.retries = retries
        """The tries before the last one."""
        self.maybe_billed = maybe_billed
        """True where a server may have done the work of the last try although no answer arrived: no chat API can tell."""

    @property
    def tries_maybe_billed(self) -> int:
        """How many tries a server may bill although no answer arrived."""
        return sum(retry.maybe_billed for retry in self.retries) + self.maybe_billed


class ModelUnavailable(ModelError):
    """The model's server cannot be reached or asks to come back later."""

    exit_code = ExitCode.TEMPORARY
    permanent = False


class ModelRefused(ModelError):
    """The model's server refused the request and would refuse it again."""


class ReplyInvalid(ModelError):
    """The model's reply does not fit what was asked for, also after one repair turn."""

    permanent = False


class ToolFailed(TaskPilotError):
    """A tool raised an exception, or did not give a usable result."""

    permanent = False


class NotDelivered(ToolFailed):
    """A channel did not take a message."""

    def __init__(self, message: str, *, late: bool = False, answered: bool = False, refused: bool = False) -> None:
        super().__init__(message)
        self.late = late
        """It was sent and may have arrived."""
        self.answered = answered
        """The receiver can be reached."""
        self.refused = refused
        """The receiver does not want this message, however often it is sent."""


class ToolArgumentsInvalid(TaskPilotError):
    """The arguments do not fit the tool's schema, or there is no such tool."""


class Denied(TaskPilotError):
    """A tool call was denied by policy or by a person."""

    exit_code = ExitCode.DENIED

    def __init__(self, message: str | None = None, *, facts: Mapping[str, Fact] | None = None) -> None:
        super().__init__(message)
        self.reason = Reason(ReasonCode.DENIED, facts or {"error": str(self)})
        """The tool, and the message of the policy or the person."""

    @classmethod
    def by_expiry(cls, reason: Reason) -> Self:
        """The denial of a call about which a person was asked and nobody answered."""
        facts = reason.facts
        denied = cls(f"{facts['tool']} was not approved: nobody answered until {facts['expired_at']}", facts=facts)
        denied.reason = reason
        return denied

    @classmethod
    def by_policy(cls, tool: str, said: str) -> Self:
        """A policy's denial of a call of that tool, with its message."""
        return cls(f"{tool} was denied by policy: {said}", facts={"tool": tool, "policy": said})

    @classmethod
    def by_person(cls, tool: str, by: str, note: str) -> Self:
        """A person's denial of a call of that tool."""
        return cls(f"{tool} was rejected by {by}: {note or 'no reason given'}", facts={"tool": tool, "by": by, "note": note})


class RequirementNotMet(TaskPilotError):
    """The job returned, and its check of the outcome failed."""

    exit_code = ExitCode.REQUIREMENT


class ItemError(TaskPilotError):
    """One item of a map failed; the results have it in the place of the item's value."""

    def __init__(self, *, index: int, item: Any, cause: Exception) -> None:
        super().__init__(f"item {index}: {said(cause)}")
        self.index = index
        self.item = item
        self.cause = cause


class EveryItemFailed(TaskPilotError):
    """Not one item of a map succeeded."""

    permanent = False

    def __init__(self, causes: Sequence[Exception]) -> None:
        super().__init__(f"all {len(causes)} items failed, the first one with: {causes[0]}")
        self.causes = tuple(causes)


class Stop(BaseException):
    """Leaves the job at once; not an Exception, so that no `except Exception` of a job keeps a stopped run going."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or _first_line(type(self)))


class Waiting(Stop):
    """The run waits for a person."""

    def __init__(self, reason: Reason = Reason(ReasonCode.APPROVAL)) -> None:
        super().__init__()
        self.reason = reason
        """What the person is asked about: an approval, an uncertain step or a diverged one."""


class BudgetExceeded(Stop):
    """A call would go past a ceiling of the run's budget."""

    def __init__(self, facts: Mapping[str, Fact] | None = None, *, in_flight: bool = False) -> None:
        super().__init__()
        self.reason = Reason(ReasonCode.BUDGET, facts or {})
        """Which ceiling, and how much of it is used."""
        self.in_flight = in_flight
        """True where the call would fit without what calls in flight have reserved: most of that is released when they end."""


class LeaseLost(Stop):
    """This attempt no longer holds the run's lease: nothing that it does is recorded."""


class DeadlineExceeded(Stop):
    """The run's active seconds are used up."""


class Terminated(Stop):
    """The supervisor asked the job process to end (SIGTERM)."""
