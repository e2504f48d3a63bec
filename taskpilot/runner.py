"""Runs one attempt in the process that it is called in, and judges what it came to."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from taskpilot.context import scope
from taskpilot.context.run_context import RunContext
from taskpilot.context.serialization import to_json
from taskpilot.context.session import Session
from taskpilot.domain.errors import (
    BudgetExceeded,
    ConfigurationError,
    DeadlineExceeded,
    Denied,
    EveryItemFailed,
    ItemError,
    LeaseLost,
    ModelUnavailable,
    RequirementNotMet,
    Stop,
    StoreBusy,
    StoreError,
    TaskPilotError,
    Terminated,
    Waiting,
)
from taskpilot.domain.runs import LeaseGrant, Outcome, Reason, RunStatus, exit_code
from taskpilot.domain.text import one_line, said
from taskpilot.jobs.parameters import bind_parameters

_SHARED: Final = frozenset({Reason.PROVIDER_UNREACHABLE, Reason.CONFIGURATION, Reason.STORE, Reason.STORE_BUSY})
"""Why all items may have failed that has an exit code of its own."""


def judge(session: Session, result: object, error: BaseException | None) -> Outcome:
    """timed_out, budget_exceeded, waiting, failed, denied, succeeded; stops count even where the job swallowed them."""
    stops = list(session.stops)
    if isinstance(error, Stop) and error not in stops:
        stops.append(error)
    for stop in stops:
        if isinstance(stop, DeadlineExceeded):
            return Outcome(RunStatus.TIMED_OUT, Reason.DEADLINE, str(stop))
    for stop in stops:
        if isinstance(stop, BudgetExceeded):
            return Outcome(RunStatus.BUDGET_EXCEEDED, Reason.BUDGET, str(stop))
    waits = [stop for stop in stops if isinstance(stop, Waiting)]
    if waits:
        more = f" (and {len(waits) - 1} more)" if len(waits) > 1 else ""
        return Outcome(RunStatus.WAITING, waits[0].reason, f"{waits[0]}{more}")
    error = error or session.journal.unrecorded
    if error is not None:
        return _filtered(session, _failed(error), error)
    if session.every_item_failed is not None:
        failed = _failed(session.every_item_failed)
        if failed.status is RunStatus.DENIED:
            return failed
        reason = failed.reason if failed.reason in _SHARED else Reason.EVERY_ITEM_FAILED
        detail = f"every item failed, the first one with: {failed.detail}"
        every = Outcome(RunStatus.FAILED, reason, detail, result=result, retry=failed.retry)
        return _filtered(session, every, session.every_item_failed)
    return Outcome(RunStatus.SUCCEEDED, result=result)


def _filtered(session: Session, outcome: Outcome, error: BaseException) -> Outcome:
    """The outcome without a further attempt, where the job's `Retry(on=...)` names no class of its error; a busy store is none of those."""
    errors = [error]
    if isinstance(error, ItemError):
        errors.append(error.cause)
    elif isinstance(error, EveryItemFailed):
        errors.extend(error.causes)
    retry = session.spec.retry
    if not outcome.retry or outcome.reason is Reason.STORE_BUSY or retry.allows(*errors):
        return outcome
    if session.run.attempts >= session.run.attempts_allowed:
        return replace(outcome, retry=False)
    named = ", ".join(kind.__name__ for kind in retry.on)
    return replace(outcome, retry=False, detail=f"{outcome.detail}; not tried again: Retry(on=...) names only {named}")


def _failed(error: BaseException) -> Outcome:
    cause = error.cause if isinstance(error, ItemError) else error
    detail = one_line(said(cause), limit=1000)
    retry = not cause.permanent if isinstance(cause, TaskPilotError) else isinstance(cause, Exception)
    if isinstance(cause, Denied):
        return Outcome(RunStatus.DENIED, Reason.DENIED, detail)
    if isinstance(cause, RequirementNotMet):
        return Outcome(RunStatus.FAILED, Reason.REQUIREMENT, one_line(str(cause), limit=1000))
    if isinstance(cause, ConfigurationError):
        return Outcome(RunStatus.FAILED, Reason.CONFIGURATION, str(cause))
    if isinstance(cause, ModelUnavailable):
        return Outcome(RunStatus.FAILED, Reason.PROVIDER_UNREACHABLE, detail, retry=True)
    if isinstance(cause, StoreError):
        return Outcome(RunStatus.FAILED, Reason.STORE, detail)
    if isinstance(cause, StoreBusy):
        return Outcome(RunStatus.FAILED, Reason.STORE_BUSY, detail, retry=True)
    if isinstance(cause, EveryItemFailed):
        return Outcome(RunStatus.FAILED, Reason.EVERY_ITEM_FAILED, detail, retry=True)
    return Outcome(RunStatus.FAILED, Reason.EXCEPTION, detail, retry=retry)


class Runner:
    """Calls a job with its context and records what it came to."""

    def __init__(
        self,
        *,
        end: Callable[..., RunStatus],
        now: Callable[[], datetime],
        mask: Callable[[str], str] = str,
        hide: Callable[[Any], Any] = lambda value: value,
        asked_to_end: Callable[[], bool] = bool,
    ) -> None:
        self._end = end
        self._asked_to_end = asked_to_end
        self._now = now
        self._mask = mask
        """Takes the secrets that we know out of an error's words: a server may say back the key that it did not like."""
        self._hide = hide
        """Takes them out of a job's result, and changes nothing else of it."""

    def run(self, session: Session, grant: LeaseGrant) -> Outcome:
        """The attempt's outcome, recorded. Raises Terminated where the supervisor asked the process to end: it records the end itself."""
        began = time.monotonic()
        session.tell("run-started", f"attempt {grant.attempt} of {session.run.job} started", attempt=grant.attempt)
        process = os.getpid()
        result, error = self._call(session)
        if os.getpid() != process:
            raise LeaseLost("a process that the job forked came back from it: only the job's own process ends the attempt")
        session.close()
        if isinstance(error, Terminated) or self._asked_to_end():
            raise Terminated
        outcome = self._lease_lost(session, error) or judge(session, result, error)
        outcome = replace(outcome, detail=self._mask(outcome.detail), result=self._hide(outcome.result))
        try:
            self._end(grant, outcome, active_seconds=time.monotonic() - began, keep_lease=True)
        except LeaseLost as lost:
            outcome = Outcome(RunStatus.LOST, Reason.LEASE, str(lost))
        level = "info" if outcome.status is RunStatus.SUCCEEDED else "warning"
        fields = {"status": outcome.status, "reason": outcome.reason, "exit_code": int(exit_code(outcome.status, outcome.reason))}
        why = f": {outcome.detail}" if outcome.detail else ""
        session.tell("run-ended", f"attempt {grant.attempt} of {session.run.job} {outcome.status}{why}", level=level, **fields)
        return outcome

    def _call(self, session: Session) -> tuple[Any, BaseException | None]:
        context = RunContext(session)
        try:
            arguments = bind_parameters(session.spec, session.run.parameters)
            with scope.entered(""):
                return to_json(session.spec.function(context, **arguments), fallback=_shown), None
        except SystemExit as left:
            # A job that says goodbye with a code other than 0 says that it failed.
            code = left.code
            return (None, None) if code in (None, 0) else (None, RuntimeError(f"the job left by sys.exit({code!r})"))
        except Stop as stop:
            return None, stop
        except BaseException as error:
            # The traceback is for `runs logs --output`; the record has the one sentence.
            # Nowhere to print it to, where the job closed its streams.
            with suppress(Exception):
                sys.stderr.write(self._mask(traceback.format_exc()))
            return None, error

    def _lease_lost(self, session: Session, error: BaseException | None) -> Outcome | None:
        """Lost, where an effect was refused for the lease, also if the job swallowed that; recorded only where nobody took the run over."""
        lost = next((stop for stop in (*session.stops, error) if isinstance(stop, LeaseLost)), None)
        return None if lost is None else Outcome(RunStatus.LOST, Reason.LEASE, str(lost), retry=True)


def _shown(value: Any) -> Any:
    """An item that failed, where a job returns what a map collected."""
    if isinstance(value, ItemError):
        return {"item": value.index, "error": said(value.cause)}
    raise TypeError(f"a {type(value).__name__} is no JSON")
