"""Why a run, an attempt or a fire ended as it did, in words: a clause without a capital and a full stop, to follow a colon."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from taskpilot.domain.decisions import APPROVE
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
    FireOutcome.COALESCED: "caught up by a later fire",
    FireOutcome.PAUSED: "skipped, since the job was paused",
    FireOutcome.BLOCKED_BUDGET: "blocked by a budget",
    FireOutcome.BLOCKED_CONFIG: "blocked, since the job cannot run as configured",
    FireOutcome.BUFFERED: "waiting to start",
}
_LIMITS: Final = {"usd": "USD", "tokens": "tokens", "llm_calls": "LLM calls", "tool_calls": "tool calls"}


@dataclass(frozen=True, slots=True)
class _Facts:
    """Facts as text. Missing ones are empty: rows of older stores have few."""

    values: Mapping[str, Fact]
    now: bool
    """The reason still holds: it is written in the present tense."""

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

    def duration(self, name: str, before: str = " of ") -> str:
        """A duration after `before`; empty where the fact is missing."""
        seconds = self.number(name)
        try:
            return "" if seconds is None else f"{before}{format_duration(timedelta(seconds=float(seconds)))}"
        except OverflowError:
            return ""

    def more(self) -> str:
        """How many more questions a person is asked."""
        number = self.number("more")
        return f" (and {number:,} more)" if number else ""


def reason_sentence(reason: Reason, *, now: bool = False) -> str:
    """The whole reason; empty where there is nothing to explain. `now`: it still holds, so it is in the present tense."""
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


def next_command(job: str, reason: Reason) -> str:
    """The command to type after a job did not start; empty where none helps."""
    run_id = reason.facts.get("run_id")
    match reason.code:
        case ReasonCode.PAUSED:
            return f"taskpilot jobs resume {job}"
        case ReasonCode.JOB_BROKEN:
            return "taskpilot jobs validate"
        case ReasonCode.NO_ATTEMPT_LEFT if run_id:
            return f"taskpilot runs resume {run_id}"
        case _:
            return f"taskpilot runs show {run_id}" if run_id else ""


def _with(text: str, detail: str, between: str = ": ") -> str:
    return f"{text}{between}{detail}" if detail else text


def _error(facts: _Facts, default: str) -> str:
    if facts["error_type"] == "SystemExit":
        status = facts["error"] if facts.number("error") is not None else repr(facts["error"])
        return f"the job called sys.exit({status})"
    return _with(facts["error_type"], facts["error"]) if facts["error_type"] else facts["error"] or default


def _item(facts: _Facts, sentence: str) -> str:
    """A reason that a run has because every item of a map has it."""
    return f"every item failed, the first one because {sentence}" if facts["every_item"] else sentence


def _configuration(facts: _Facts) -> str:
    return _item(facts, _with(facts["error"].rstrip(".") or "the job cannot run as configured", facts["hint"], "; fix: "))


def _asked(facts: _Facts, otherwise: str) -> str:
    """What a person is asked about."""
    if facts["tool"] == APPROVE:
        return "a question of the job"
    return f"the call of {facts['tool']}" if facts["tool"] else f'the task "{facts["title"]}"' if facts["title"] else otherwise


def _approval(facts: _Facts) -> str:
    what = _asked(facts, "it")
    until = _with("", facts["expires_at"], "; without an answer it is denied at ") if facts.now else ""
    return f"{what} {'needs' if facts.now else 'needed'} a person's approval{_with('', facts['policy'])}{facts.more()}{until}"


def _approval_expired(facts: _Facts) -> str:
    what = _asked(facts, "a question")
    return f"nobody answered: {what} needed a person's approval{_with('', facts['expired_at'], ' until ')}"


def _uncertain_step(facts: _Facts) -> str:
    return f"{facts['tool'] or 'a tool'} had started and left no result, and it is not safe to call it again{facts.more()}"


def _diverged_step(facts: _Facts) -> str:
    if facts["item"]:
        what = "a workflow" if facts["item"] == "workflow" else "an item of a map"
        return f"{what} is not the one of an earlier attempt at this place, whose work had effects{facts.more()}"
    other = f"called {facts['recorded_tool']} with other arguments" if facts["recorded_tool"] else "made another call"
    return f"{facts['tool'] or 'a tool'} was not called, since an earlier attempt {other} at this place{facts.more()}"


def _budget(facts: _Facts) -> str:
    of = "the run's budget" if facts["scope"] in ("", "run") else "the budget"
    unit = _LIMITS.get(facts["limit"], "")
    ceiling, used, wanted = (_amount(facts.number(name), unit) for name in ("ceiling", "used", "wanted"))
    parts = [f"{used} used or reserved" if used else "", f"the next call could take {wanted}" if wanted else ""]
    return _with(_with(of, ceiling, " of ") + " is used up", ", ".join(filter(None, parts)))


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
    said = facts["policy"] or facts["error"]
    return _with(f"{facts['tool']} was denied", said) if facts["tool"] else said or "a tool call was denied"


def _exited(facts: _Facts) -> str:
    return f"the job's process exited{_with('', facts['exit_status'], ' with status ')} before its end was recorded"


def _lease(facts: _Facts) -> str:
    return "its lease could not be renewed, so its process was ended" if facts["killed"] else "its process is gone, or its lease expired"


def _cause(facts: _Facts) -> str:
    """The reason that caused this one; empty where none is known."""
    code = next((code for code in ReasonCode if code == facts["cause"] and code not in _WITH_CAUSE), ReasonCode.NONE)
    own = {name: value for name, value in facts.values.items() if name != "cause"}
    return reason_sentence(Reason(code, own))


_WITH_CAUSE: Final = (ReasonCode.OVERTAKEN, ReasonCode.ALREADY_CLAIMED)


def _overtaken(facts: _Facts) -> str:
    cause = _cause(facts)
    again = f"not tried again, since the job is due again{_with('', facts['fire'], ' at ')}"
    return f"{cause}; {again}" if cause else again


def _fire(facts: _Facts, otherwise: str) -> str:
    return f"the fire of {facts['fire']}" if facts["fire"] else otherwise


def _run_active(facts: _Facts) -> str:
    run = f"run {facts['run_id']}" if facts["run_id"] else "another run of the job"
    lost = f"; the lost run {facts['lost_run_id']} waits for its end" if facts["lost_run_id"] else ""
    return f"{run} {facts.was} active{lost}"


def _run_waiting(facts: _Facts) -> str:
    run = f"run {facts['run_id']}" if facts["run_id"] else "a run of the job"
    return f"{run} {'waits' if facts.now else 'was waiting'} for a person"


def _fire_waiting(facts: _Facts) -> str:
    run = f", behind run {facts['run_id']}" if facts["run_id"] else ""
    return f"{_fire(facts, 'an earlier fire')} {facts.was} already waiting to start{run}"


def _interrupted(facts: _Facts) -> str:
    other = f"run {facts['run_id']}" if facts["run_id"] else _fire(facts, "another run")
    return f"the command that waited for {other} was ended{_with('', facts['signal'], ' by ')}"


def _pause(facts: _Facts) -> str:
    return _with(_with(_with("", facts["since"], " since "), facts["by"], " by "), facts["note"])


def _already_claimed(facts: _Facts) -> str:
    fire, cause = f"the fire of {facts['scheduled_for']}" if facts["scheduled_for"] else "the fire", _cause(facts)
    if facts["run_id"] and not cause:
        return f"run {facts['run_id']} already has {fire}{_with('', facts['run_status'], ' and is ')}"
    outcome = next((words for outcome, words in OUTCOMES.items() if outcome == facts["outcome"]), "claimed")
    return f"{fire} is already decided: {cause}" if cause else f"{fire} is already {outcome}"


def _no_attempt_left(facts: _Facts) -> str:
    run = f"run {facts['run_id']}" if facts["run_id"] else "the run"
    return f"{run} of {_fire(facts, 'the fire')} is lost and has no attempt left"


def _nothing_due(facts: _Facts) -> str:
    window = facts.duration("window_seconds", " in the last ")
    schedule = f" ({facts['schedule']})" if facts["schedule"] else ""
    return f"no fire was due{window}{schedule}"


def _not_met(facts: _Facts) -> str:
    """Why a fire did not start at its time."""
    if facts["unseen"] == "asleep":
        return f"no scheduler was running{_with('', facts['asleep_since'], ' from ')}{_with('', facts['asleep_until'], ' to ')}"
    if facts["unseen"] == "failing":
        return _with(f"the scheduler failed{_with('', facts['failing_since'], ' since ')}", facts["scheduler_error"])
    return _NO_STARTER if facts["unseen"] == "nobody" else "it was not started in time"


_NO_STARTER: Final = "no scheduler was running, and no command started it"


def _catch_up_limit(facts: _Facts) -> str:
    return f"{_not_met(facts)}; only the latest{_with('', facts['limit'], ' ')} fires are caught up"


def _repeated_failures(facts: _Facts) -> str:
    number = facts.number("runs")
    runs = "its last runs" if number is None else "its last run" if number == 1 else f"its last {number:,f} runs"
    return f"{runs} did not succeed{_with('', facts['run_id'], '; the last was run ')}"


def _notice_failed(facts: _Facts) -> str:
    number = facts.number("notices")
    what = "a notice" if number in (None, 1) else f"{number:,f} notices"
    return _with(f"{what} did not arrive at the channel {facts['channel'] or 'of the settings'}", facts["error"])


def _start_deadline(facts: _Facts) -> str:
    late = f"{_not_met(facts)}; " if facts["unseen"] else ""
    return f"{late}its start deadline{facts.duration('deadline_seconds')} passed before it could start"


_SENTENCES: Final[Mapping[ReasonCode, Callable[[_Facts], str]]] = {
    ReasonCode.NONE: lambda _: "",
    ReasonCode.UNKNOWN: lambda _: "the reason was not recorded",
    ReasonCode.EXCEPTION: lambda facts: _error(facts, "the job raised an exception"),
    ReasonCode.EVERY_ITEM_FAILED: lambda facts: _with("every item failed", _error(facts, ""), ", the first one with "),
    ReasonCode.OUTCOME_FAILED: lambda facts: _with("a ctx.require() check failed", facts["error"]),
    ReasonCode.CONFIGURATION: _configuration,
    ReasonCode.PROVIDER_UNREACHABLE: lambda facts: _item(facts, _with("the model is not available", facts["error"])),
    ReasonCode.STORE: lambda facts: _item(facts, _with("the store cannot be used", facts["error"])),
    ReasonCode.STORE_BUSY: lambda facts: _item(facts, _with("the store was locked for too long", facts["error"])),
    ReasonCode.NOT_STARTED: lambda facts: _with("the job's process could not be started", facts["error"]),
    ReasonCode.APPROVAL: _approval,
    ReasonCode.APPROVAL_EXPIRED: _approval_expired,
    ReasonCode.UNCERTAIN_STEP: _uncertain_step,
    ReasonCode.DIVERGED_STEP: _diverged_step,
    ReasonCode.BUDGET: _budget,
    ReasonCode.DENIED: _denied,
    ReasonCode.DEADLINE: lambda facts: f"the deadline{facts.duration('deadline_seconds')} passed",
    ReasonCode.CANCELLED_BY_PERSON: lambda _: "cancelled by a person",
    ReasonCode.REPLACED: lambda facts: f"{_fire(facts, 'a newer fire')} took its place",
    ReasonCode.SIGINT: lambda _: "cancelled by SIGINT (Ctrl-C)",
    ReasonCode.SIGTERM: lambda facts: f"ended by {facts['signal'] or 'SIGTERM'}; finished steps are kept",
    ReasonCode.SIGNAL: lambda facts: f"the job's process was killed{_with('', facts['signal'], ' by ')}",
    ReasonCode.EXITED: _exited,
    ReasonCode.LEASE: _lease,
    ReasonCode.OVERTAKEN: _overtaken,
    ReasonCode.RUN_ACTIVE: _run_active,
    ReasonCode.RUN_WAITING: _run_waiting,
    ReasonCode.FIRE_WAITING: _fire_waiting,
    ReasonCode.INTERRUPTED: _interrupted,
    ReasonCode.PAUSED: lambda facts: f"the job {facts.was} paused{_pause(facts)}",
    ReasonCode.ALREADY_CLAIMED: _already_claimed,
    ReasonCode.NO_ATTEMPT_LEFT: _no_attempt_left,
    ReasonCode.NOTHING_DUE: _nothing_due,
    ReasonCode.JOB_BROKEN: lambda facts: _with(f"the job's file {'cannot' if facts.now else 'could not'} be loaded", facts["error"]),
    ReasonCode.CATCH_UP_WINDOW_PASSED: lambda facts: f"{_not_met(facts)}; its catch-up window{facts.duration('window_seconds')} has passed",
    ReasonCode.CATCH_UP_OFF: lambda facts: f'{_not_met(facts)}; the job has catch_up="skip"',
    ReasonCode.CATCH_UP_LIMIT: _catch_up_limit,
    ReasonCode.START_DEADLINE: _start_deadline,
    ReasonCode.CAUGHT_UP_BY: lambda facts: f"{_not_met(facts)}; {_fire(facts, 'a later fire')} catches up for it",
    ReasonCode.NOBODY_CLAIMED: lambda _: _NO_STARTER,
    ReasonCode.WAS_PAUSED: lambda facts: f"{_not_met(facts)}; then the job was paused{_pause(facts)}",
    ReasonCode.SCHEDULE_CHANGED: lambda facts: f"its schedule was changed before it could start{_with('', facts['schedule'], '; it was ')}",
    ReasonCode.RESUMED: lambda facts: _with(f"resumed by {facts['by'] or 'a person'}", facts["note"]),
    ReasonCode.REPEATED_FAILURES: _repeated_failures,
    ReasonCode.COMMAND_GONE: lambda _: "the command that waited to start it is gone, and no scheduler was running",
    ReasonCode.JOB_REMOVED: lambda _: "the job was removed while it waited to start",
    ReasonCode.NO_SUCCESS: lambda facts: f"no success{_with('', facts['since'], ' since ') or ' yet'}, too long for its schedule",
    ReasonCode.NOTICE_FAILED: _notice_failed,
    ReasonCode.CLOCK_SET: lambda facts: f"the clock was set{_with('', facts['from'], ' from ')}{_with('', facts['to'], ' to ')}",
}
