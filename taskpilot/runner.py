"""Runs one attempt in the current process and determines its outcome."""

import os
import sys
import time
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
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import LeaseGrant, Outcome, RunStatus, exit_code
from taskpilot.domain.text import one_line, said, words_of
from taskpilot.jobs.parameters import bind_parameters
from taskpilot.telemetry.job_errors import keep_error

_SHARED: Final = frozenset({ReasonCode.PROVIDER_UNREACHABLE, ReasonCode.CONFIGURATION, ReasonCode.STORE, ReasonCode.STORE_BUSY})
"""Reasons with their own exit code, which also apply where all items failed."""
_DENIED_BY_EXPIRY: Final = frozenset({RunStatus.SUCCEEDED, RunStatus.DENIED})
"""How a run may end that was not answered in time; it then ends denied for that reason."""
ERROR_MAX: Final = 1000
"""Characters of an error message that a reason keeps."""


def judge(session: Session, result: object, error: BaseException | None) -> Outcome:
    """The outcome of an attempt; a stop counts even where the job caught it."""
    stops = list(session.stops)
    if isinstance(error, Stop) and error not in stops:
        stops.append(error)
    if any(isinstance(stop, DeadlineExceeded) for stop in stops):
        return Outcome(RunStatus.TIMED_OUT, session.run.deadline_reason)
    for stop in stops:
        if isinstance(stop, BudgetExceeded):
            return Outcome(RunStatus.BUDGET_EXCEEDED, stop.reason)
    waits = [stop for stop in stops if isinstance(stop, Waiting)]
    if waits:
        return Outcome(RunStatus.WAITING, waits[0].reason.with_facts(**({"more": len(waits) - 1} if len(waits) > 1 else {})))
    error = error or session.journal.unrecorded
    if error is not None:
        return _filtered(session, _failed(error), error)
    if session.every_item_failed is not None:
        failed = _failed(session.every_item_failed)
        if failed.status is RunStatus.DENIED:
            return failed
        if failed.reason.code in _SHARED:
            every = replace(failed, reason=failed.reason.with_facts(every_item=True), result=result)
        else:
            every = Outcome(RunStatus.FAILED, Reason(ReasonCode.EVERY_ITEM_FAILED, failed.reason.facts), result=result, retry=failed.retry)
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
    if not outcome.retry or outcome.reason.code is ReasonCode.STORE_BUSY or retry.allows(*errors):
        return outcome
    if session.run.attempts >= session.run.attempts_allowed:
        return replace(outcome, retry=False)
    named = ", ".join(kind.__name__ for kind in retry.on)
    return replace(outcome, retry=False, reason=outcome.reason.with_facts(retry_on=named))


def _failed(error: BaseException) -> Outcome:
    cause = error.cause if isinstance(error, ItemError) else error
    if isinstance(cause, Denied):
        return Outcome(RunStatus.DENIED, cause.reason)
    code, retry = ReasonCode.EXCEPTION, isinstance(cause, Exception | SystemExit)
    if isinstance(cause, TaskPilotError):
        code = next((code for kind, code in _CODES.items() if isinstance(cause, kind)), code)
        retry = not cause.permanent
    first = cause.causes[0] if isinstance(cause, EveryItemFailed) else cause
    message = words_of(first)
    facts = {"error": message if code is ReasonCode.CONFIGURATION else one_line(message, limit=ERROR_MAX)}
    if code in (ReasonCode.EXCEPTION, ReasonCode.EVERY_ITEM_FAILED):
        facts["error_type"] = type(first).__name__
    return Outcome(RunStatus.FAILED, Reason(code, facts), retry=retry)


_CODES: Final[dict[type[TaskPilotError], ReasonCode]] = {
    RequirementNotMet: ReasonCode.OUTCOME_FAILED,
    ConfigurationError: ReasonCode.CONFIGURATION,
    ModelUnavailable: ReasonCode.PROVIDER_UNREACHABLE,
    StoreError: ReasonCode.STORE,
    StoreBusy: ReasonCode.STORE_BUSY,
    EveryItemFailed: ReasonCode.EVERY_ITEM_FAILED,
}


class Runner:
    """Calls a job with its context and records the outcome."""

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
        """Removes known secrets from an error message: a server may repeat the key that it refused."""
        self._hide = hide
        """Removes them from a job's result."""

    def run(self, session: Session, grant: LeaseGrant) -> Outcome:
        """The attempt's outcome, recorded. Raises Terminated where the supervisor asked the process to end: it records the end itself."""
        began = time.monotonic()
        session.emit("run-started", f"attempt {grant.attempt} of {session.run.job} started", attempt=grant.attempt)
        process = os.getpid()
        result, error = self._call(session)
        if os.getpid() != process:
            raise LeaseLost("a process that the job forked came back from it: only the job's own process ends the attempt")
        session.close()
        if isinstance(error, Terminated) or self._asked_to_end():
            raise Terminated
        outcome = self._lease_lost(session, error) or judge(session, result, error)
        if session.expired is not None and (outcome.status in _DENIED_BY_EXPIRY or outcome.reason.code is ReasonCode.OUTCOME_FAILED):
            outcome = Outcome(RunStatus.DENIED, session.expired, result=outcome.result)
        facts = {name: self._mask(fact) if isinstance(fact, str) else fact for name, fact in outcome.reason.facts.items()}
        outcome = replace(outcome, reason=Reason(outcome.reason.code, facts), result=self._hide(outcome.result))
        try:
            outcome = replace(outcome, result=session.journal.large.keep("run-result", outcome.result))
        except StoreError as error:
            outcome = Outcome(RunStatus.FAILED, Reason(ReasonCode.STORE, {"error": error.one_line}))
        try:
            self._end(grant, outcome, active_seconds=time.monotonic() - began, keep_lease=True)
        except LeaseLost:
            outcome = Outcome(RunStatus.LOST, Reason(ReasonCode.LEASE))
        level = "info" if outcome.status is RunStatus.SUCCEEDED else "warning"
        code = exit_code(outcome.status, outcome.reason.cause)
        fields = {"status": outcome.status, "reason": outcome.reason, "exit_code": int(code)}
        session.emit("run-ended", f"attempt {grant.attempt} of {session.run.job} {outcome.status}", level=level, **fields)
        return outcome

    def _call(self, session: Session) -> tuple[Any, BaseException | None]:
        context = RunContext(session)
        try:
            session.load()
            _share_file(session)
            arguments = bind_parameters(session.spec, session.run.parameters)
            with scope.entered(""):
                return to_json(session.spec.function(context, **arguments), fallback=_shown), None
        except SystemExit as left:
            # A job that exits with a status other than 0 failed.
            code = left.code
            return None, None if code in (None, 0) else left
        except Stop as stop:
            return None, stop
        except BaseException as error:
            self._keep(session, error)
            return None, error

    def _keep(self, session: Session, error: BaseException) -> None:
        """Keeps the traceback for `runs logs --output`, and logs it as one event. A full disk does not hide the error itself."""
        with suppress(Exception):
            keep_error(session.run_dir, error, attempt=session.identity.attempt or 1, mask=self._mask)
        message = f"{session.run.job} raised {one_line(self._mask(said(error)), limit=ERROR_MAX)}"
        session.emit_error("job-raised", message, error)

    def _lease_lost(self, session: Session, error: BaseException | None) -> Outcome | None:
        """The outcome `lost` where the lease was lost, also if the job caught that error; None otherwise."""
        lost = next((stop for stop in (*session.stops, error) if isinstance(stop, LeaseLost)), None)
        return None if lost is None else Outcome(RunStatus.LOST, Reason(ReasonCode.LEASE), retry=True)


def _share_file(session: Session) -> None:
    """Lets processes that the job starts with spawn or forkserver import its file: they get only the import path of this one."""
    file, (package, dot, _) = session.spec.file, session.spec.function.__module__.partition(".")
    if file is not None and dot:
        link = session.run_dir / "import" / package
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(file.parent, target_is_directory=True)
        sys.path.append(str(link.parent))


def _shown(value: Any) -> Any:
    """The JSON of a failed item in a job's result."""
    if isinstance(value, ItemError):
        return {"item": value.index, "error": said(value.cause)}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
