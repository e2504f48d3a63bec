"""Answers of people: approve or reject a task or a tool call, rate a result."""

from dataclasses import replace

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision, DecisionStatus
from taskpilot.domain.errors import NotFound, TransitionRefused
from taskpilot.domain.instruments import APPROVALS, FEEDBACK
from taskpilot.domain.runs import OPEN, Feedback, FeedbackVerdict, Run, RunStatus
from taskpilot.domain.tasks import Task, TaskStatus
from taskpilot.messages.actions import Answered, Continuation, Rated
from taskpilot.services.running import find_run
from taskpilot.store import listings, runs, steps, tasks, totals
from taskpilot.store.database import Transaction
from taskpilot.store.ids import find_id
from taskpilot.store.schedulers import awake_schedulers


def approve_task(deployment: Deployment, task_id: str, *, by: str, note: str, repeat: bool = False) -> Answered:
    """Lets a task be executed. A failed one is executed again; only with `repeat` it may repeat the effects that are recorded.

    Raises UsageError, NotFound or TransitionRefused.
    """
    return _move(deployment, task_id, TaskStatus.APPROVED, by=by, note=note, repeat=repeat)


def reject_task(deployment: Deployment, task_id: str, *, by: str, note: str) -> Answered:
    """Ends a task without executing it. Raises UsageError, NotFound or TransitionRefused."""
    return _move(deployment, task_id, TaskStatus.REJECTED, by=by, note=note)


def approve_decision(deployment: Deployment, decision_id: str, *, by: str, note: str) -> Answered:
    """Lets exactly one tool call, with its arguments, be made. Raises UsageError, NotFound or TransitionRefused."""
    return _settle(deployment, decision_id, DecisionStatus.APPROVED, by=by, note=note)


def reject_decision(deployment: Deployment, decision_id: str, *, by: str, note: str) -> Answered:
    """Denies exactly one tool call. Raises UsageError, NotFound or TransitionRefused."""
    return _settle(deployment, decision_id, DecisionStatus.REJECTED, by=by, note=note)


def _move(deployment: Deployment, task_id: str, after: TaskStatus, *, by: str, note: str, repeat: bool = False) -> Answered:
    reason = f"{after} by {by}" + (f": {note}" if note else "")
    with deployment.store.write() as connection:
        parsed = find_id(connection, task_id, noun="task")
        before = tasks.get_task(connection, parsed)
        again = before is not None and before.status is TaskStatus.FAILED
        if repeat and not again:
            raise TransitionRefused(f"task {parsed} has not failed: there is nothing to repeat")
        task = tasks.move_task(connection, parsed, after, reason=reason, now=deployment.now(), repeat=repeat)
        effects = steps.effects_below(connection, task.run_id, task.scope) if again else []
        if before is not None and before.status is TaskStatus.REVIEW:
            totals.add(connection, task.job, [totals.count(APPROVALS, verdict=after)])
        totals.mark_dirty(connection, task.job)
        run, resumable = _run_of(connection, task.run_id)
    return replace(_answered(deployment, task, run, resumable=resumable), effects=tuple(effects))


def _settle(deployment: Deployment, decision_id: str, after: DecisionStatus, *, by: str, note: str) -> Answered:
    with deployment.store.write() as connection:
        parsed = find_id(connection, decision_id, noun="decision")
        decision = tasks.get_decision(connection, parsed)
        if decision is None:
            raise NotFound(f"there is no decision {parsed}", hint="taskpilot decisions list")
        _check_pending(decision)
        tasks.settle_decision(connection, decision, status=after, by=by, note=note, now=deployment.now())
        totals.mark_dirty(connection, decision.job)
        run, resumable = _run_of(connection, decision.run_id)
    return _answered(deployment, replace(decision, status=after), run, resumable=resumable)


def _run_of(connection: Transaction, run_id: str) -> tuple[Run | None, bool]:
    """The run, and whether it continues or can be resumed."""
    run = runs.get_run(connection, run_id)
    return run, run is not None and (run.status in OPEN or tasks.may_resume(connection, run.id, run.status))


def _answered(deployment: Deployment, item: Task | Decision, run: Run | None, *, resumable: bool) -> Answered:
    if run is not None and run.status is RunStatus.WAITING and _queue_answered(deployment, run.id):
        continuation = Continuation.QUEUED
    else:
        continuation = Continuation.BY_RESUME if run is None or resumable else Continuation.NONE
    return Answered(item, None if run is None else run.status, continuation)


def _queue_answered(deployment: Deployment, run_id: str) -> bool:
    """Queues the run if it has no open question and a scheduler is running."""
    with deployment.store.read() as connection:
        asked = tasks.pending_decisions(connection, run_id) or listings.uncertain_steps(connection, run_id)
        in_review = any(task.status is TaskStatus.REVIEW for task in tasks.tasks_of(connection, run_id))
        if asked or in_review or not awake_schedulers(connection, deployment.boot()):
            return False
    return deployment.ledger.requeue_waiting(run_id)


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
