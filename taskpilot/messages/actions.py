"""What an action of a person did, in words: an approval, a rejection, a rating, a pause, a cancellation."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from taskpilot.domain.decisions import Decision, Grant
from taskpilot.domain.ids import short_id
from taskpilot.domain.runs import Feedback, RunStatus
from taskpilot.domain.steps import Step
from taskpilot.domain.tasks import Task
from taskpilot.domain.times import utc_iso
from taskpilot.messages.questions import call_text

_CALLS_SHOWN: Final = 20


class Continuation(StrEnum):
    """What happens to the run of an answered question."""

    QUEUED = "queued"
    """The scheduler continues it."""
    BY_RESUME = "by_resume"
    """`taskpilot runs resume` continues it."""
    NONE = "none"
    """It has ended."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A task or a tool call after a person approved or rejected it, and what happens to its run."""

    item: Task | Decision
    run_status: RunStatus | None
    """None where the run was deleted."""
    continuation: Continuation
    effects: tuple[Step, ...] = ()
    """The calls that earlier executions of a task made, or may have made; it is executed again."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A person's rating of a result."""

    job: str
    feedback: Feedback
    earlier: Feedback | None
    """The rating that it replaces."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A run that a person cancelled."""

    run_id: str
    before: RunStatus
    ended: bool
    """False where its process still has to end."""


def answered(action: Answered) -> str:
    """A sentence, and on a line of its own what happens next."""
    item, run_id = action.item, action.item.run_id
    what = f"task {item.id}" if isinstance(item, Task) else f"the call of {item.tool} in run {run_id}"
    match action.continuation:
        case Continuation.QUEUED:
            after = f"all questions are answered: the scheduler continues run {run_id} now"
        case Continuation.BY_RESUME:
            after = f"when all questions are answered: taskpilot runs resume {run_id}"
        case Continuation.NONE:
            after = f"run {run_id} is {action.run_status} and does not continue"
    return "\n".join([f"{what} is {item.status}", *_effects(action), after])


def granted(grant: Grant) -> str:
    """A sentence."""
    what = "with these arguments" if grant.schema is None else "with arguments that the schema allows"
    until = utc_iso(grant.until, timespec="seconds")
    return f"{grant.tool} in {grant.job} is approved {what} until {until}, {grant.uses_max} times in all: grant {short_id(grant.id)}"


def _effects(action: Answered) -> list[str]:
    """What is said about the calls that were made before."""
    if not action.effects:
        return []
    repeats = isinstance(action.item, Task) and action.item.repeats == action.item.reopened
    calls = [f"  {call_text(step.name, step.input)}" for step in action.effects[:_CALLS_SHOWN]]
    more = len(action.effects) - len(calls)
    return [
        "it made these calls before, and may now make them again:"
        if repeats
        else "it made these calls before. They are not made again, and another call of the same tool asks you first "
        "(--repeat lets it make them again):",
        *calls,
        *([f"  and {more} more"] if more else []),
    ]


def rated(action: Rated) -> str:
    """A sentence, with the earlier rating where this one differs."""
    given, earlier = action.feedback, action.earlier
    before = f" ({earlier.given_by} had rated it {earlier.verdict})" if earlier and earlier.verdict is not given.verdict else ""
    return f"{given.given_by} rated run {given.run_id} of {action.job} {given.verdict}{before}"


def cancelled(action: Cancelled) -> str:
    """A sentence that says whether the run has ended."""
    if action.ended:
        return f"run {action.run_id} was {action.before} and is now cancelled"
    return f"run {action.run_id} is being cancelled: its process gets SIGTERM within a second and SIGKILL 10 s later"


def job_paused(job: str) -> str:
    """A sentence, with the command that ends the pause."""
    return f"job {job} is paused: no new run starts, active runs continue; `taskpilot jobs resume {job}` ends the pause"


def job_resumed(job: str) -> str:
    """A sentence."""
    return f"job {job} is resumed; runs that were due in the pause are not made up"
