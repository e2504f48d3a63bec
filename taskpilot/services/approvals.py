"""Answers of people: approve or reject a task or a tool call, rate a result."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from taskpilot.deployment import Deployment
from taskpilot.domain.argument_schema import check_schema
from taskpilot.domain.decisions import Decision, DecisionStatus, Grant, Via
from taskpilot.domain.errors import NotFound, TransitionRefused, UsageError
from taskpilot.domain.ids import new_id
from taskpilot.domain.instruments import APPROVALS, FEEDBACK
from taskpilot.domain.runs import OPEN, Feedback, FeedbackVerdict, RunStatus
from taskpilot.domain.tasks import Task, TaskStatus
from taskpilot.domain.times import utc_iso
from taskpilot.ledger.expiry import expire_due, follow_answers, is_over
from taskpilot.messages.actions import Answered, Continuation, Rated
from taskpilot.policy.rego import GUARDS_PATH
from taskpilot.services.running import find_run
from taskpilot.store import grants as store_grants
from taskpilot.store import runs, steps, tasks, totals
from taskpilot.store.database import Transaction
from taskpilot.store.grants import insert_grant
from taskpilot.store.ids import find_id


def approve_task(deployment: Deployment, task_id: str, *, by: str, note: str, repeat: bool = False, via: Via = Via.TERMINAL) -> Answered:
    """Lets a task be executed. A failed one is executed again; only with `repeat` it may repeat the effects that are recorded.

    Raises UsageError, NotFound or TransitionRefused.
    """
    return _move(deployment, task_id, TaskStatus.APPROVED, by=by, note=note, repeat=repeat, via=via)


def reject_task(deployment: Deployment, task_id: str, *, by: str, note: str, via: Via = Via.TERMINAL) -> Answered:
    """Ends a task without executing it. Raises UsageError, NotFound or TransitionRefused."""
    return _move(deployment, task_id, TaskStatus.REJECTED, by=by, note=note, via=via)


def approve_decision(deployment: Deployment, decision_id: str, *, by: str, note: str, via: Via = Via.TERMINAL) -> Answered:
    """Lets exactly one tool call, with its arguments, be made. Raises UsageError, NotFound or TransitionRefused."""
    return _settle(deployment, decision_id, DecisionStatus.APPROVED, by=by, note=note, via=via)


def grant_decision(
    deployment: Deployment,
    decision_id: str,
    *,
    until: datetime,
    uses: int,
    schema: dict[str, Any] | None = None,
    by: str,
    note: str,
) -> tuple[Answered, Grant]:
    """Approves a call and as many further ones, of this tool in this job, until an instant: with the same arguments, or such as the schema
    allows. Raises UsageError, NotFound or TransitionRefused.
    """
    now = deployment.now()
    if until <= now:
        raise UsageError(f"the grant would end at {utc_iso(until, timespec='seconds')}, which is over")
    if schema is not None:
        try:
            check_schema(schema)
        except ValueError as error:
            raise UsageError(str(error)) from None
    grants_made: list[Grant] = []

    def give(connection: Transaction, decision: Decision) -> None:
        if decision.path == GUARDS_PATH:
            raise TransitionRefused("this question is about repeating an effect: it is answered once", hint=_approving(decision))
        grant = Grant(
            new_id(), decision.id, decision.job, decision.tool, decision.arguments, schema, until, uses, 1, by, now, note
        )  # fmt: skip
        if not grant.covers(decision.arguments):
            raise UsageError("the schema does not allow the arguments of this call", hint=f"taskpilot decisions show {decision.id}")
        insert_grant(connection, grant)
        grants_made.append(grant)

    answered = _settle(deployment, decision_id, DecisionStatus.APPROVED, by=by, note=note, via=Via.TERMINAL, then=give)
    return answered, grants_made[0]


def revoke_grant(deployment: Deployment, grant_id: str, *, by: str) -> Grant:
    """Ends a standing grant; what it approved before stays approved. Raises UsageError, NotFound or TransitionRefused."""
    with deployment.store.write() as connection:
        parsed = find_id(connection, grant_id, noun="grant")
        ended = store_grants.revoke_grant(connection, parsed, by=by, now=deployment.now())
        grant = store_grants.get_grant(connection, parsed)
    if grant is None:
        raise NotFound(f"there is no grant {parsed}", hint="taskpilot decisions grants")
    if not ended:
        raise TransitionRefused(f"grant {parsed} was revoked by {grant.revoked_by}")
    return grant


def _approving(decision: Decision) -> str:
    return f"taskpilot decisions approve {decision.id}"


def reject_decision(deployment: Deployment, decision_id: str, *, by: str, note: str, via: Via = Via.TERMINAL) -> Answered:
    """Denies exactly one tool call. Raises UsageError, NotFound or TransitionRefused."""
    return _settle(deployment, decision_id, DecisionStatus.REJECTED, by=by, note=note, via=via)


def _move(
    deployment: Deployment, task_id: str, after: TaskStatus, *, by: str, note: str, repeat: bool = False, via: Via = Via.TERMINAL
) -> Answered:
    reason = f"{after} by {by}" + (f": {note}" if note else "")
    late: Task | None = None
    with deployment.store.write() as connection:
        now = deployment.now()
        parsed = find_id(connection, task_id, noun="task")
        before = tasks.get_task(connection, parsed)
        again = before is not None and before.status is TaskStatus.FAILED
        if repeat and not again:
            raise TransitionRefused(f"task {parsed} has not failed: there is nothing to repeat")
        if before is not None and before.status is TaskStatus.REVIEW and is_over(before, now):
            late = before
            expire_due(connection, now=now, boot=deployment.boot(), job=before.job)
        elif before is not None and before.via is Via.EXPIRY:
            late = before
        else:
            task = tasks.move_task(connection, parsed, after, reason=reason, now=now, repeat=repeat, via=via)
            effects = steps.effects_below(connection, task.run_id, task.scope) if again else []
            if before is not None and before.status is TaskStatus.REVIEW:
                totals.add(connection, task.job, [totals.count(APPROVALS, verdict=after)])
            totals.mark_dirty(connection, task.job)
            answered = replace(_followed(deployment, connection, task), effects=tuple(effects))
    if late is not None:
        raise _too_late(f"task {late.id}", late.expires_at)
    return answered


def _settle(
    deployment: Deployment,
    decision_id: str,
    after: DecisionStatus,
    *,
    by: str,
    note: str,
    via: Via,
    then: Callable[[Transaction, Decision], None] = lambda _connection, _decision: None,
) -> Answered:
    late = False
    with deployment.store.write() as connection:
        now = deployment.now()
        parsed = find_id(connection, decision_id, noun="decision")
        decision = tasks.get_decision(connection, parsed)
        if decision is None:
            raise NotFound(f"there is no decision {parsed}", hint="taskpilot decisions list")
        if decision.status is DecisionStatus.PENDING and is_over(decision, now):
            late = True
            expire_due(connection, now=now, boot=deployment.boot(), job=decision.job)
        elif decision.status is DecisionStatus.EXPIRED:
            late = True
        else:
            _check_pending(decision)
            decision = tasks.settle_decision(connection, decision, status=after, by=by, note=note, now=now, via=via)
            totals.mark_dirty(connection, decision.job)
            then(connection, decision)
            answered = _followed(deployment, connection, decision)
    if late:
        raise _too_late(f"decision {decision.id}", decision.expires_at)
    return answered


def _too_late(what: str, expired_at: datetime | None) -> TransitionRefused:
    """The refusal of an answer that came too late."""
    when = "" if expired_at is None else f" until {utc_iso(expired_at, timespec='seconds')}"
    return TransitionRefused(f"{what} has expired: nobody answered{when}, so it is denied")


def _followed(deployment: Deployment, connection: Transaction, item: Task | Decision) -> Answered:
    """What the answer of a person means for the run, which a server continues after the last one."""
    queued = follow_answers(connection, item.run_id, now=deployment.now(), boot=deployment.boot())
    run = runs.get_run(connection, item.run_id)
    if queued:
        # As it was when the person answered.
        return Answered(item, RunStatus.WAITING, Continuation.QUEUED)
    resumable = run is not None and (run.status in OPEN or tasks.may_resume(connection, run.id, run.status))
    continuation = Continuation.BY_RESUME if run is None or resumable else Continuation.NONE
    return Answered(item, None if run is None else run.status, continuation)


def _check_pending(decision: Decision) -> None:
    if decision.status is not DecisionStatus.PENDING:
        what = f"{decision.status} by {decision.settled_by}" if decision.settled_by else "not waiting for a person"
        raise TransitionRefused(f"decision {decision.id} is {what}: it needs no answer")


def give_feedback(deployment: Deployment, run_id: str, verdict: FeedbackVerdict, *, by: str, note: str) -> Rated:
    """Records whether a run's result was right, in place of an earlier rating.

    The counter never goes down: a changed rating is counted as another one, a repeated rating is not. The golden signal reads the newest
    rating of each run. Raises UsageError, NotFound, or TransitionRefused where the run did not succeed.
    """
    run = find_run(deployment, run_id)
    given = Feedback(run.id, verdict, by, deployment.now(), note)
    with deployment.store.write() as connection:
        earlier = runs.feedback_on(connection, run.id)
        if earlier is None and run.status is not RunStatus.SUCCEEDED:
            raise TransitionRefused(f"run {run.id} is {run.status}: only the result of a run that succeeded can be rated")
        runs.record_feedback(connection, given)
        if earlier is None or earlier.verdict is not verdict:
            totals.add(connection, run.job, [totals.count(FEEDBACK, verdict=verdict)])
            totals.mark_dirty(connection, run.job)
    return Rated(run.job, given, earlier)
