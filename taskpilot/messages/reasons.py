"""Why a run, an attempt or a fire ended as it did, in words. A clause without a capital and a full stop, to stand behind a colon."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from taskpilot.domain.reasons import Fact, Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, RunStatus
from taskpilot.domain.text import one_line
from taskpilot.domain.times import format_duration

LINE: Final = 200
"""Characters of the short form: three lines of a terminal."""
OUTCOMES: Final = {
    FireOutcome.STARTED: "started",
    FireOutcome.SKIPPED_OVERLAP: "skipped, since another run was active",
    FireOutcome.MISSED: "missed",
    FireOutcome.COALESCED: "left to a later fire",
    FireOutcome.PAUSED: "skipped, since the job was paused",
    FireOutcome.BLOCKED_BUDGET: "blocked by a budget",
    FireOutcome.BLOCKED_CONFIG: "blocked, since the job cannot run as configured",
    FireOutcome.BUFFERED: "waiting to start",
}
_LIMITS: Final = {"usd": "USD", "tokens": "tokens", "llm_calls": "LLM calls", "tool_calls": "tool calls"}


@dataclass(frozen=True, slots=True)
class _Facts:
    """Facts as text. One that is missing is empty: rows of older stores have few."""

    values: Mapping[str, Fact]
    now: bool
    """What is said still holds: the present tense."""

    def __getitem__(self, name: str) -> str:
        value = self.values.get(name)
        return "" if value is None or value is False else str(value)

    @property
    def was(self) -> str:
        return "is" if self.now else "was"

    def number(self, name: str) -> Decimal | None:
        value = self.values.get(name)
        if isinstance(value, bool) or value is None:
            return None
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            return None
        return number if number.is_finite() else None

    def duration(self, name: str) -> str:
        """With a leading ` of `, since it may be missing."""
        seconds = self.number(name)
        try:
            return "" if seconds is None else f" of {format_duration(timedelta(seconds=float(seconds)))}"
        except OverflowError:
            return ""

    def more(self) -> str:
        """How many further questions a person is asked."""
        number = self.number("more")
        return f" (and {number:,} more)" if number else ""


def reason_sentence(reason: Reason, *, now: bool = False) -> str:
    """The whole reason; empty where nothing is to be explained. `now`: it still holds, so it is told in the present tense."""
    old = reason.facts.get("text")
    if old:
        # Recorded by a version that stored sentences.
        return str(old)
    return _SENTENCES[reason.code](_Facts(reason.facts, now))


def reason_line(reason: Reason, *, now: bool = False) -> str:
    """The reason on one line of a list, printable."""
    return one_line(reason_sentence(reason, now=now), limit=LINE)


def status_sentence(status: RunStatus, reason: Reason) -> str:
    """Like `failed: ValueError: no inbox`."""
    why = reason_sentence(reason, now=status in (RunStatus.WAITING, RunStatus.RUNNING))
    return f"{status.value}: {why}" if why else status.value


def status_line(status: RunStatus, reason: Reason) -> str:
    """The same on one line, printable."""
    return one_line(status_sentence(status, reason), limit=LINE)


def _with(text: str, detail: str, between: str = ": ") -> str:
    return f"{text}{between}{detail}" if detail else text


def _error(facts: _Facts, default: str) -> str:
    return _with(facts["error_type"], facts["error"]) if facts["error_type"] else facts["error"] or default


def _configuration(facts: _Facts) -> str:
    return _with(facts["error"] or "the job cannot run as configured", facts["hint"], "; fix: ")


def _approval(facts: _Facts) -> str:
    what = f"the call of {facts['tool']}" if facts["tool"] else f'the task "{facts["title"]}"' if facts["title"] else "it"
    verb = "needs" if facts.now else "needed"
    return f"{what} {verb} a person's approval{facts.more()}"


def _uncertain_step(facts: _Facts) -> str:
    return f"{facts['tool'] or 'a tool'} had started and left no result, and it is not safe to call it again{facts.more()}"


def _diverged_step(facts: _Facts) -> str:
    return f"{facts['tool'] or 'a tool'} was not called, since an earlier attempt made another call at this place{facts.more()}"


def _budget(facts: _Facts) -> str:
    of = {"": "the run's ", "run": "the run's ", "job_day": "the job's daily ", "day": "the daily "}.get(facts["scope"], "the ")
    unit = _LIMITS.get(facts["limit"], "")
    ceiling, used, wanted = (_amount(facts.number(name), unit) for name in ("ceiling", "used", "wanted"))
    parts = [f"{used} used" if used else "", f"the next call could take {wanted}" if wanted else ""]
    return _with(_with(f"{of}budget", ceiling, " of ") + " is used up", ", ".join(filter(None, parts)))


def _amount(value: Decimal | None, unit: str) -> str:
    if value is None:
        return ""
    text = f"{value:,f}"
    if unit == "USD":
        whole, _, fraction = text.partition(".")
        text = f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
    return f"{text} {unit}".rstrip()


def _denied(facts: _Facts) -> str:
    if facts["by"]:
        return _with(f"{facts['by']} denied {facts['tool'] or 'a tool call'}", facts["note"])
    return _with(f"the call of {facts['tool']} was denied", facts["error"]) if facts["tool"] else facts["error"] or "a tool call was denied"


def _replaced(facts: _Facts) -> str:
    return f"{_fire(facts, 'a newer fire')} took its place"


def _signal(facts: _Facts) -> str:
    cause = ", probably because memory ran out" if facts["out_of_memory"] else ""
    core = " (it left a core file)" if facts["core_dumped"] else ""
    return f"the job's process was killed{_with('', facts['signal'], ' by ')}{cause}{core}"


def _exited(facts: _Facts) -> str:
    return f"the job's process exited{_with('', facts['exit_status'], ' with status ')} before its end was recorded"


def _overtaken(facts: _Facts) -> str:
    code = next((code for code in ReasonCode if code == facts["cause"] and code not in (ReasonCode.OVERTAKEN, ReasonCode.NONE)), None)
    own = {name: value for name, value in facts.values.items() if name not in ("cause", "fire")}
    cause = "" if code is None else reason_sentence(Reason(code, own))
    again = f"not tried again, since {_with('the next fire', facts['fire'], ' is at ') if facts['fire'] else 'the job is due again'}"
    return f"{cause}; {again}" if cause else again


def _fire(facts: _Facts, otherwise: str) -> str:
    return f"the fire of {facts['fire']}" if facts["fire"] else otherwise


def _run_active(facts: _Facts) -> str:
    return f"run {facts['run_id']} {facts.was} active" if facts["run_id"] else f"another run of the job {facts.was} active"


def _fire_waiting(facts: _Facts) -> str:
    return f"{_fire(facts, 'an earlier fire')} {facts.was} already waiting to start"


def _interrupted(facts: _Facts) -> str:
    run = f"run {facts['run_id']}" if facts["run_id"] else "another run"
    return f"the command that waited for {run} was ended{_with('', facts['signal'], ' by ')}"


def _paused(facts: _Facts) -> str:
    return f"the job {facts.was} paused{_pause(facts)}"


def _pause(facts: _Facts) -> str:
    return _with(_with(_with("", facts["since"], " since "), facts["by"], " by "), facts["note"])


def _already_claimed(facts: _Facts) -> str:
    outcome = next((words for outcome, words in OUTCOMES.items() if outcome == facts["outcome"]), "claimed")
    return f"{_fire(facts, 'the fire')} is already {outcome}{_with('', facts['run_id'], ', run ')}"


def _job_broken(facts: _Facts) -> str:
    return _with(f"the job's file {'cannot' if facts.now else 'could not'} be loaded", facts["error"])


def _not_met(facts: _Facts) -> str:
    """Why a fire was not met at its time."""
    if facts["unseen"] == "asleep" or facts["asleep_since"]:
        between = f" from {facts['asleep_since']} to {facts['asleep_until']}" if facts["asleep_since"] and facts["asleep_until"] else ""
        return f"no scheduler was running{between}"
    return _UNSEEN.get(facts["unseen"], "it was not started in time")


_UNSEEN: Final = {
    "nobody": "no scheduler was running, and no command claimed it",
    "resumed": "it was due before the job was resumed",
    "changed": "it was due before the job's file was changed",
}


def _was_paused(facts: _Facts) -> str:
    return f"{_not_met(facts)}; then the job was paused{_pause(facts)}"


def _schedule_changed(facts: _Facts) -> str:
    return _with("the schedule was changed, or the job removed, before it could start", facts["schedule"], "; the schedule was ")


_SENTENCES: Final[Mapping[ReasonCode, Callable[[_Facts], str]]] = {
    ReasonCode.NONE: lambda _: "",
    ReasonCode.UNKNOWN: lambda _: "the reason was not recorded",
    ReasonCode.EXCEPTION: lambda facts: _error(facts, "the job raised an exception"),
    ReasonCode.EVERY_ITEM_FAILED: lambda facts: _with("every item failed", _error(facts, ""), ", the first one with "),
    ReasonCode.OUTCOME_FAILED: lambda facts: _with("a ctx.require() check failed", facts["error"]),
    ReasonCode.CONFIGURATION: _configuration,
    ReasonCode.PROVIDER_UNREACHABLE: lambda facts: _with("the model cannot be reached", _error(facts, "")),
    ReasonCode.STORE: lambda facts: _with("the store cannot be used", _error(facts, "")),
    ReasonCode.STORE_BUSY: lambda facts: _with("the store was locked for too long", _error(facts, "")),
    ReasonCode.APPROVAL: _approval,
    ReasonCode.UNCERTAIN_STEP: _uncertain_step,
    ReasonCode.DIVERGED_STEP: _diverged_step,
    ReasonCode.BUDGET: _budget,
    ReasonCode.DENIED: _denied,
    ReasonCode.DEADLINE: lambda facts: f"the deadline{facts.duration('deadline_seconds')} passed",
    ReasonCode.CANCELLED_BY_PERSON: lambda facts: f"cancelled by {facts['by'] or 'a person'}",
    ReasonCode.REPLACED: _replaced,
    ReasonCode.SIGINT: lambda _: "cancelled by SIGINT (Ctrl-C)",
    ReasonCode.SIGTERM: lambda facts: f"ended by {facts['signal'] or 'SIGTERM'}; finished steps are kept",
    ReasonCode.SIGNAL: _signal,
    ReasonCode.EXITED: _exited,
    ReasonCode.LEASE: lambda facts: _with("the run's process is gone, or could not renew its lease", facts["error"]),
    ReasonCode.OVERTAKEN: _overtaken,
    ReasonCode.RUN_ACTIVE: _run_active,
    ReasonCode.FIRE_WAITING: _fire_waiting,
    ReasonCode.INTERRUPTED: _interrupted,
    ReasonCode.PAUSED: _paused,
    ReasonCode.ALREADY_CLAIMED: _already_claimed,
    ReasonCode.JOB_BROKEN: _job_broken,
    ReasonCode.CATCH_UP_WINDOW_PASSED: lambda facts: f"{_not_met(facts)}; its catch-up window{facts.duration('window_seconds')} has passed",
    ReasonCode.CATCH_UP_OFF: lambda facts: f'{_not_met(facts)}; the job has catch_up="skip"',
    ReasonCode.CATCH_UP_LIMIT: lambda facts: (
        f"{_not_met(facts)}; only the latest {facts['limit']} fires are caught up"
        if facts["limit"]
        else f"{_not_met(facts)}; only the latest fires are caught up"
    ),
    ReasonCode.START_DEADLINE: lambda facts: f"its start deadline{facts.duration('deadline_seconds')} passed before it could start",
    ReasonCode.CAUGHT_UP_BY: lambda facts: f"{_not_met(facts)}; {_fire(facts, 'a later fire')} catches up for it",
    ReasonCode.NOBODY_CLAIMED: lambda _: "no scheduler was running, and no command claimed it",
    ReasonCode.WAS_PAUSED: _was_paused,
    ReasonCode.SCHEDULE_CHANGED: _schedule_changed,
}
