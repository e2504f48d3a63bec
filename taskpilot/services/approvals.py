"""What people say: yes or no to a task or a tool call, and whether a result was right."""

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision, DecisionStatus
from taskpilot.domain.errors import NotFound, TransitionRefused
from taskpilot.domain.ids import parse_id
from taskpilot.domain.instruments import APPROVALS, FEEDBACK
from taskpilot.domain.runs import OPEN, Feedback, FeedbackVerdict, Run, RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.services.running import find_run
from taskpilot.store import listings, runs, tasks, totals
from taskpilot.store.schedulers import awake_schedulers


def approve_task(deployment: Deployment, task_id: str, *, by: str, note: str) -> str:
    """Lets a task be executed; gives a sentence and a line with the next command. Raises UsageError, NotFound or TransitionRefused."""
    return _move(deployment, task_id, TaskStatus.APPROVED, by=by, note=note)


def reject_task(deployment: Deployment, task_id: str, *, by: str, note: str) -> str:
    """Ends a task unexecuted; gives a sentence and a line with the next command. Raises UsageError, NotFound or TransitionRefused."""
    return _move(deployment, task_id, TaskStatus.REJECTED, by=by, note=note)


def approve_decision(deployment: Deployment, decision_id: str, *, by: str, note: str) -> str:
    """Lets exactly one tool call, with its arguments, be made. Raises UsageError, NotFound or TransitionRefused."""
    return _settle(deployment, decision_id, DecisionStatus.APPROVED, by=by, note=note)


def reject_decision(deployment: Deployment, decision_id: str, *, by: str, note: str) -> str:
    """Denies exactly one tool call. Raises UsageError, NotFound or TransitionRefused."""
    return _settle(deployment, decision_id, DecisionStatus.REJECTED, by=by, note=note)


def _move(deployment: Deployment, task_id: str, after: TaskStatus, *, by: str, note: str) -> str:
    parsed = parse_id(task_id, noun="task")
    reason = f"{after} by {by}" + (f": {note}" if note else "")
    with deployment.store.write() as connection:
        before = tasks.get_task(connection, parsed)
        task = tasks.move_task(connection, parsed, after, reason=reason, now=deployment.now())
        if before is not None and before.status is TaskStatus.REVIEW:
            totals.add(connection, task.job, [totals.count(APPROVALS, verdict=after)])
        totals.mark_dirty(connection, task.job)
        run = runs.get_run(connection, task.run_id)
        goes_on = run is not None and (run.status in OPEN or tasks.may_resume(connection, run.id, run.status))
    return f"task {task.id} is {after}\n{_and_now(deployment, task.run_id, run, goes_on=goes_on)}"


def _settle(deployment: Deployment, decision_id: str, after: DecisionStatus, *, by: str, note: str) -> str:
    parsed = parse_id(decision_id, noun="decision")
    with deployment.store.write() as connection:
        decision = tasks.get_decision(connection, parsed)
        if decision is None:
            raise NotFound(f"there is no decision {parsed}", hint="taskpilot decisions list")
        _check_pending(decision)
        tasks.settle_decision(connection, decision, status=after, by=by, note=note, now=deployment.now())
        totals.mark_dirty(connection, decision.job)
        run = runs.get_run(connection, decision.run_id)
        goes_on = run is not None and (run.status in OPEN or tasks.may_resume(connection, run.id, run.status))
    return f"{decision.tool} of run {decision.run_id} is {after}\n{_and_now(deployment, decision.run_id, run, goes_on=goes_on)}"


def _and_now(deployment: Deployment, run_id: str, run: Run | None, *, goes_on: bool) -> str:
    if run is not None and run.status is RunStatus.WAITING and _server_goes_on(deployment, run_id):
        return f"nothing else is asked, so the server goes on with run {run_id} at once"
    if run is None or goes_on:
        return f"when all is answered: taskpilot runs resume {run_id}"
    return f"run {run_id} is {run.status} and is not gone on with"


def _server_goes_on(deployment: Deployment, run_id: str) -> bool:
    """Puts the run into the queue of a server that is awake, where it waits for nothing more."""
    with deployment.store.read() as connection:
        asked = tasks.pending_decisions(connection, run_id) or listings.uncertain_steps(connection, run_id)
        in_review = any(task.status is TaskStatus.REVIEW for task in tasks.tasks_of(connection, run_id))
        if asked or in_review or not awake_schedulers(connection, deployment.now()):
            return False
    return deployment.ledger.go_on(run_id)


def _check_pending(decision: Decision) -> None:
    if decision.status is not DecisionStatus.PENDING:
        what = f"{decision.status} by {decision.settled_by}" if decision.settled_by else "not a question to a person"
        raise TransitionRefused(f"decision {decision.id} is {what}: there is nothing to answer")


def give_feedback(deployment: Deployment, run_id: str, verdict: FeedbackVerdict, *, by: str, note: str) -> str:
    """Records whether a run's result was right; gives a sentence. An earlier word on the run is replaced.

    The counter counts each word that says something new, so that it never goes back: a change of mind is counted as the new word
    too, the same word again is not. The golden signal reads the words that hold.
    Raises UsageError, NotFound, or TransitionRefused where the run has not ended.
    """
    run = find_run(deployment, run_id)
    given = Feedback(run.id, verdict, by, deployment.now(), note)
    with deployment.store.write() as connection:
        earlier = runs.feedback_on(connection, run.id)
        if earlier is None and run.status in OPEN:
            raise TransitionRefused(f"run {run.id} is {run.status}: there is no result yet that could be {verdict}")
        runs.record_feedback(connection, given)
        if earlier is None or earlier.verdict is not verdict:
            totals.add(connection, run.job, [totals.count(FEEDBACK, verdict=verdict)])
            totals.mark_dirty(connection, run.job)
    changed = f", which {earlier.given_by} had called {earlier.verdict}," if earlier and earlier.verdict is not verdict else ""
    return f"run {run.id} of {run.job}{changed} is called {verdict} by {by}"
