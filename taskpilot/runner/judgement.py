"""What an attempt came to: the first of the contract's statuses that applies."""

from typing import Final

from taskpilot.context.session import Session
from taskpilot.domain.errors import (
    BudgetExceeded,
    ConfigurationError,
    DeadlineExceeded,
    Denied,
    EveryItemFailed,
    ItemError,
    ModelUnavailable,
    RequirementNotMet,
    Stop,
    StoreBusy,
    StoreError,
    TaskPilotError,
    Waiting,
)
from taskpilot.domain.runs import Outcome, Reason, RunStatus
from taskpilot.domain.text import one_line, said

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
        return _failed(error)
    if session.every_item_failed is not None:
        failed = _failed(session.every_item_failed)
        if failed.status is RunStatus.DENIED:
            return failed
        reason = failed.reason if failed.reason in _SHARED else Reason.EVERY_ITEM_FAILED
        detail = f"every item failed, the first one with: {failed.detail}"
        return Outcome(RunStatus.FAILED, reason, detail, result=result, retry=failed.retry)
    return Outcome(RunStatus.SUCCEEDED, result=result)


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
