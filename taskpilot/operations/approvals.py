"""A person's yes or no: to a task in review, and to a tool call that policy would not allow by itself."""

from taskpilot.domain.decisions import Decision, DecisionStatus
from taskpilot.domain.errors import NotFound, TransitionRefused
from taskpilot.domain.identity import parse_id
from taskpilot.domain.instruments import APPROVALS
from taskpilot.domain.runs import OPEN, Run, RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.operations.house import House
from taskpilot.operations.running import publish_change
from taskpilot.store import listings, runs, tasks
from taskpilot.store.schedulers import awake_schedulers
from taskpilot.store.totals import add, count, touch


def approve_task(house: House, task_id: str, *, by: str, note: str) -> str:
    """Lets a task be executed; gives a sentence and a line with the next command. Raises UsageError, NotFound or TransitionRefused."""
    return _move(house, task_id, TaskStatus.APPROVED, by=by, note=note)


def reject_task(house: House, task_id: str, *, by: str, note: str) -> str:
    """Ends a task unexecuted; gives a sentence and a line with the next command. Raises UsageError, NotFound or TransitionRefused."""
    return _move(house, task_id, TaskStatus.REJECTED, by=by, note=note)


def approve_decision(house: House, decision_id: str, *, by: str, note: str) -> str:
    """Lets exactly one tool call, with its arguments, be made. Raises UsageError, NotFound or TransitionRefused."""
    return _settle(house, decision_id, DecisionStatus.APPROVED, by=by, note=note)


def reject_decision(house: House, decision_id: str, *, by: str, note: str) -> str:
    """Denies exactly one tool call. Raises UsageError, NotFound or TransitionRefused."""
    return _settle(house, decision_id, DecisionStatus.REJECTED, by=by, note=note)


def _move(house: House, task_id: str, after: TaskStatus, *, by: str, note: str) -> str:
    parsed = parse_id(task_id, noun="task")
    reason = f"{after} by {by}" + (f": {note}" if note else "")
    with house.store.write() as connection:
        before = tasks.get_task(connection, parsed)
        task = tasks.move_task(connection, parsed, after, reason=reason, now=house.now())
        if before is not None and before.status is TaskStatus.REVIEW:
            add(connection, task.job, [count(APPROVALS, verdict=after)])
        touch(connection, task.job)
        run = runs.get_run(connection, task.run_id)
        goes_on = run is not None and (run.status in OPEN or tasks.may_resume(connection, run.id, run.status))
    publish_change(house, task.job)
    return f"task {task.id} is {after}\n{_and_now(house, task.run_id, run, goes_on=goes_on)}"


def _settle(house: House, decision_id: str, after: DecisionStatus, *, by: str, note: str) -> str:
    parsed = parse_id(decision_id, noun="decision")
    with house.store.write() as connection:
        decision = tasks.get_decision(connection, parsed)
        if decision is None:
            raise NotFound(f"there is no decision {parsed}; `taskpilot decisions list` shows them")
        _check_pending(decision)
        tasks.settle_decision(connection, decision, status=after, by=by, note=note, now=house.now())
        touch(connection, decision.job)
        run = runs.get_run(connection, decision.run_id)
        goes_on = run is not None and (run.status in OPEN or tasks.may_resume(connection, run.id, run.status))
    publish_change(house, decision.job)
    return f"{decision.tool} of run {decision.run_id} is {after}\n{_and_now(house, decision.run_id, run, goes_on=goes_on)}"


def _and_now(house: House, run_id: str, run: Run | None, *, goes_on: bool) -> str:
    if run is not None and run.status is RunStatus.WAITING and _server_goes_on(house, run_id):
        return f"nothing else is asked, so the server goes on with run {run_id} at once"
    if run is None or goes_on:
        return f"when all is answered: taskpilot runs resume {run_id}"
    return f"run {run_id} is {run.status} and is not gone on with"


def _server_goes_on(house: House, run_id: str) -> bool:
    """Puts the run into the queue of a server that is awake, where it waits for nothing more."""
    with house.store.read() as connection:
        asked = tasks.pending_decisions(connection, run_id) or listings.uncertain_steps(connection, run_id)
        in_review = any(task.status is TaskStatus.REVIEW for task in tasks.tasks_of(connection, run_id))
        if asked or in_review or not awake_schedulers(connection, house.now()):
            return False
    return house.ledger.go_on(run_id)


def _check_pending(decision: Decision) -> None:
    if decision.status is not DecisionStatus.PENDING:
        what = f"{decision.status} by {decision.settled_by}" if decision.settled_by else "not a question to a person"
        raise TransitionRefused(f"decision {decision.id} is {what}: there is nothing to answer")
