"""Plans, reviews and executes one request."""

import json
from contextlib import nullcontext

from taskpilot.context import scope
from taskpilot.context.given import workflow_place
from taskpilot.context.llm_steps import LLMSteps
from taskpilot.context.serialization import to_json
from taskpilot.context.session import Session
from taskpilot.context.tool_steps import ToolSteps
from taskpilot.domain.decisions import Via
from taskpilot.domain.errors import ModelError, ModelUnavailable, Waiting
from taskpilot.domain.ids import new_id
from taskpilot.domain.tasks import AFTER_VERDICT, Task, TaskResult, TaskStatus, WorkflowResult
from taskpilot.domain.text import one_line
from taskpilot.workflow.execution import Execution
from taskpilot.workflow.shapes import PLANNER, REVIEWER, Plan, Proposal, Review


def run_workflow(session: Session, llm_steps: LLMSteps, tool_steps: ToolSteps, request: object) -> WorkflowResult:
    """Plans the request, then reviews and executes its tasks one after the other.

    Raises ModelError if the planner or a reviewer gives no usable reply, and Waiting, after all other tasks are done, if a person must
    decide about one.
    """
    text = request if isinstance(request, str) else json.dumps(to_json(request), ensure_ascii=False, sort_keys=True)
    with scope.entered(workflow_place(session, text)):
        plan = llm_steps.structured("planner", text, Plan, system=PLANNER)
        results: list[TaskResult] = []
        waits: list[Waiting] = []
        for proposal in plan.tasks:
            with scope.inside("task") as here:
                try:
                    task = _process(session, llm_steps, tool_steps, text, proposal, here.path)
                except Waiting as waiting:
                    waits.append(waiting)
                    continue
                results.append(TaskResult(task.id, task.title, task.priority, task.status, task.reason))
        if waits:
            raise waits[0]
        return WorkflowResult(request=text, tasks=tuple(results))


def _process(session: Session, llm_steps: LLMSteps, tool_steps: ToolSteps, request: str, proposal: Proposal, path: str) -> Task:
    task = session.journal.task_at(path) or _propose(session, proposal, path)
    if task.status is TaskStatus.PENDING:
        about = {"title": task.title, "priority": task.priority, "description": task.description}
        prompt = json.dumps({"request": request, "task": about}, ensure_ascii=False)
        review = llm_steps.structured("reviewer", prompt, Review, system=REVIEWER)
        task = session.journal.move_task(task.id, AFTER_VERDICT[review.verdict], one_line(review.reason), expires_at=session.answer_by())
        session.emit("task-reviewed", f"{task.title}: {review.verdict}", task_id=task.id, verdict=review.verdict)
    if task.status is TaskStatus.REVIEW:
        raise session.waiting(task.question, "review-required")
    if task.status not in (TaskStatus.APPROVED, TaskStatus.EXECUTED):
        if task.via is Via.EXPIRY:
            session.not_answered(task.expiry)
        return task
    try:
        # An executed task too: an earlier attempt may have ended between create_task and the executor's last call.
        # A failed task that was approved again gets a new scope: the recorded denials and replies belong to the time before.
        with scope.entered(f"{path}/again.{task.reopened}") if task.reopened else nullcontext():
            return Execution(session, llm_steps, tool_steps, task).run()
    except ModelUnavailable:
        # The task does not change: a later attempt continues with it.
        raise
    except ModelError as error:
        now = session.journal.task_at(path)
        if now is not None and now.status is TaskStatus.EXECUTED:
            session.emit("executor-failed", f"{now.title} is filed, then: {one_line(str(error))}", level="warning", task_id=now.id)
            return now
        return session.journal.move_task(task.id, TaskStatus.FAILED, one_line(str(error)))


def _propose(session: Session, proposal: Proposal, path: str) -> Task:
    now = session.now()
    task = Task(
        id=new_id(),
        run_id=session.run.id,
        job=session.run.job,
        scope=path,
        title=proposal.title,
        priority=proposal.priority,
        description=proposal.description,
        status=TaskStatus.PENDING,
        reason="proposed by the planner",
        created_at=now,
        updated_at=now,
    )
    session.journal.propose(task)
    return task
