"""How an attempt ends in the record: by itself, on request, or followed by another one."""

from datetime import datetime, timedelta
from typing import Any, Final

from taskpilot.domain.events import EventKind
from taskpilot.domain.instruments import AGENT_INVOCATIONS, BUDGET_STOPS, LLM_CALLS, LLM_COST, LLM_UNPRICED, RUN_DURATION, RUNS, TOOL_CALLS
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import OPEN, RESUMABLE, Outcome, Run, RunStatus, exit_code
from taskpilot.domain.specs import JobSpec, Retry
from taskpilot.domain.steps import Step, StepKind, StepStatus
from taskpilot.domain.times import to_micros
from taskpilot.store import runs, schedules, steps, totals
from taskpilot.store.database import Record, Transaction
from taskpilot.store.events import record_event
from taskpilot.store.records import dumps, reason_columns

_MAY_FOLLOW: Final = frozenset({RunStatus.LOST, RunStatus.FAILED})
_EVENTS: Final = {
    RunStatus.SUCCEEDED: EventKind.RUN_SUCCEEDED,
    RunStatus.FAILED: EventKind.RUN_FAILED,
    RunStatus.LOST: EventKind.RUN_LOST,
    RunStatus.TIMED_OUT: EventKind.RUN_TIMED_OUT,
    RunStatus.DENIED: EventKind.RUN_DENIED,
    RunStatus.BUDGET_EXCEEDED: EventKind.RUN_OVER_BUDGET,
    RunStatus.CANCELLED: EventKind.RUN_CANCELLED,
}


def end_attempt(connection: Transaction, row: Record, outcome: Outcome, *, now: datetime, keep_lease: bool) -> RunStatus:
    """Ends the run's open attempt and sets the run's state, which it returns.

    A run whose attempt may be followed by another one, and has one left, is queued; its lease stays with its supervisor where
    `keep_lease`. Every step that was begun and has no end becomes unknown.
    """
    uncertain = close_begun_steps(connection, row.id, row.job, now)
    reason = reason_columns(outcome.reason)
    attempt = runs.open_attempt(connection, row.id)
    if attempt is not None:
        runs.close_attempt(connection, attempt.id, status=outcome.status, ended_at=to_micros(now), **reason)
    again = outcome.retry and outcome.status in _MAY_FOLLOW and row.attempts < row.attempts_allowed
    status = RunStatus.QUEUED if again else outcome.status
    values: dict[str, Any] = {"status": status, **reason}
    if status not in OPEN:
        values["ended_at"] = to_micros(now)
    # Also None: the result of an earlier attempt is not the run's.
    values["result"] = None if outcome.result is None else dumps(outcome.result)
    if not (again and keep_lease):
        values |= {"lease_token": None, "lease_expires_at": None}
    if status not in OPEN:
        # No scheduler starts it from the queue.
        values |= {"start_after": None}
    runs.update_run(connection, row.id, **values)
    if status in RESUMABLE:
        for step in uncertain:
            asked = Reason(ReasonCode.UNCERTAIN_STEP, {"run_id": row.id, "step_id": step.id, "tool": step.name})
            record_event(connection, EventKind.APPROVAL_ASKED, row.job, at=now, run_id=row.id, subject=step.id, reason=asked)
    if status not in OPEN:
        kind = EventKind.OUTCOME_FAILED if outcome.reason.code is ReasonCode.OUTCOME_FAILED else _EVENTS[status]
        record_event(connection, kind, row.job, at=now, run_id=row.id, reason=outcome.reason)
        if outcome.reason.code is not ReasonCode.APPROVAL_EXPIRED:
            _pause_after_failures(connection, row, now)
    _count(connection, row.id, status, outcome, now)
    return status


def _pause_after_failures(connection: Transaction, row: Record, now: datetime) -> None:
    """Pauses the job after as many failed runs in a row as it asks for, counted since a person last resumed it.

    A cancelled run is not counted.
    """
    wanted = row.pause_after_failures
    if not wanted or schedules.pauses_in_force(connection).get(row.job) is not None:
        return
    since = schedules.last_resumed(connection, row.job)
    counted = [status for status in runs.last_endings(connection, row.job, 4 * wanted, since=since) if status is not RunStatus.CANCELLED][
        :wanted
    ]
    if len(counted) == wanted and RunStatus.SUCCEEDED not in counted:
        runs_word = "its last run" if wanted == 1 else f"its last {wanted} runs"
        note = f"pause_on_failure={wanted}: {runs_word} ended badly, run {row.id} last"
        reason = Reason(ReasonCode.REPEATED_FAILURES, {"runs": wanted, "run_id": row.id})
        schedules.begin_pause(connection, row.job, by="taskpilot", note=note, now=now, reason=reason)


def close_begun_steps(connection: Transaction, run_id: str, job: str, now: datetime) -> list[Step]:
    """Makes every begun step unknown; an LLM call costs its whole reservation, since it may have been billed.

    Returns the tool calls about which a person has to say whether they happened.
    """
    begun = steps.begun_steps(connection, run_id)
    for step in begun:
        cost = step.reserved_nano
        steps.end_step(connection, step.id, status=StepStatus.UNKNOWN, ended_at=to_micros(now), cost_nano=cost)
        if step.kind is StepKind.ASK:
            steps.settle(connection, step, cost_nano=cost, unpriced=cost is None, tokens=step.reserved_tokens, usage=(0, 0, 0))
            agent = totals.bounded_agent(connection, job, step.agent or "other", AGENT_INVOCATIONS.name)
            totals.add(connection, job, _unknown_call(step, agent))
        elif step.kind is StepKind.CALL:
            totals.add(connection, job, [totals.count(TOOL_CALLS, tool=step.name, status=StepStatus.UNKNOWN)])
    return [step for step in begun if step.kind is StepKind.CALL and not step.idempotent]


def _unknown_call(step: Step, agent: str) -> list[totals.Increment]:
    model = step.model or "other"
    counted = [totals.count(LLM_CALLS, model=model, status=StepStatus.UNKNOWN)]
    if step.reserved_nano is None:
        counted.append(totals.count(LLM_UNPRICED, model=model))
    else:
        counted.append(totals.count(LLM_COST, step.reserved_nano, model=model, agent=agent))
    return counted


def _count(connection: Transaction, run_id: str, status: RunStatus, outcome: Outcome, now: datetime) -> None:
    row = runs.run_row(connection, run_id)
    assert row is not None
    if status is RunStatus.QUEUED:
        totals.mark_dirty(connection, row.job)
        return
    state: dict[str, Any] = {"last_status": status, "last_exit_code": int(exit_code(status, outcome.reason.cause))}
    if status not in OPEN:
        increments = [totals.count(RUNS, status=status), *totals.observed(RUN_DURATION, row.active_micros)]
        if status is RunStatus.BUDGET_EXCEEDED:
            increments.append(totals.count(BUDGET_STOPS, scope="run"))
        totals.add(connection, row.job, increments)
        state |= {
            "last_completion": to_micros(now),
            "last_duration_micros": row.active_micros,
            "last_cost_nano": None if row.unpriced_calls else row.cost_nano,
            "last_input_tokens": row.input_tokens,
            "last_cached_input_tokens": row.cached_input_tokens,
            "last_output_tokens": row.output_tokens,
            "last_budget_used_micros": _used_ratio_micros(row),
        }
        if status is RunStatus.SUCCEEDED:
            state["last_success"] = to_micros(now)
    totals.set_state(connection, row.job, ended_run=run_id, **state)


def _used_ratio_micros(row: Record) -> int:
    """Millionths of the tightest ceiling that the run used."""
    pairs = (
        (row.spent_nano, row.ceiling_nano),
        (row.spent_tokens, row.ceiling_tokens),
        (row.llm_calls, row.ceiling_llm_calls),
        (row.tool_calls, row.ceiling_tool_calls),
    )
    return max((used * 1_000_000 // ceiling for used, ceiling in pairs if ceiling), default=0)


BY_PERSON: Final = Outcome(RunStatus.CANCELLED, Reason(ReasonCode.CANCELLED_BY_PERSON))
REPLACED: Final = Outcome(RunStatus.CANCELLED, Reason(ReasonCode.REPLACED))


def cancelled_outcome(run: Run) -> Outcome:
    """The outcome of a run that was asked to end: by a person, or for a newer fire."""
    return BY_PERSON if run.cancel_grace is None else REPLACED


def ask_to_end(connection: Transaction, run_id: str, *, grace: timedelta, now: datetime) -> None:
    """Ends an active run of a job for a newer fire; its process has this grace time."""
    row = runs.run_row(connection, run_id)
    assert row is not None
    micros = grace // timedelta(microseconds=1)
    if row.lease_token is None:
        end_attempt(connection, row, REPLACED, now=now, keep_lease=False)
    elif row.cancel_requested_at is None or (row.cancel_grace_micros or 0) > micros:
        runs.update_run(connection, run_id, cancel_requested_at=to_micros(now), cancel_grace_micros=micros)


_FIRST: Final = timedelta(seconds=2)
_SPREAD: Final = 0.1
"""As a part of the job's delay, added to it: runs that failed together do not retry together."""


def backoff(retry: Retry, attempts: int, drawn: float) -> timedelta:
    """The wait after so many attempts, for `drawn` in [0, 1); it doubles with each, up to `max_delay`."""
    longest: timedelta = (retry.delay or _FIRST) * 2 ** min(attempts - 1, 16)
    if retry.delay is None:
        return drawn * min(longest, retry.max_delay)
    return min(longest * (1 + _SPREAD * drawn), retry.max_delay)


def overtaken_by(spec: JobSpec | None, scheduled_for: datetime | None, start: datetime) -> datetime | None:
    """The fire after the run's own, where it is due before `start`: then that fire runs instead of a retry."""
    if spec is None or spec.schedule is None or scheduled_for is None:
        return None
    following = spec.schedule.next_after(scheduled_for)
    return following if following is not None and following <= start else None
