"""What planners proposed and what was decided: lists of tasks and decisions, and one of each."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision
from taskpilot.domain.errors import NotFound, UsageError
from taskpilot.domain.ids import parse_id
from taskpilot.domain.tasks import Task
from taskpilot.store import listings, tasks
from taskpilot.store import tasks as queries
from taskpilot.store.listings import Page
from taskpilot.views.runs import checked_page
from taskpilot.views.shapes import task_json

EXPORT: Final = ".tasks.json"


def list_tasks(
    deployment: Deployment, page: Page, *, run_id: str | None = None, job: str | None = None, statuses: Iterable[str] = ()
) -> list[Task]:
    """A page of tasks, the newest first."""
    run_id = None if run_id is None else parse_id(run_id)
    with deployment.store.read() as connection:
        return listings.tasks_page(connection, checked_page(page, "task"), run_id=run_id, job=job, statuses=statuses)


def show_task(deployment: Deployment, task_id: str) -> Task:
    """One task. Raises UsageError or NotFound."""
    task_id = parse_id(task_id, noun="task")
    with deployment.store.read() as connection:
        task = queries.get_task(connection, task_id)
    if task is None:
        raise NotFound(f"there is no task {task_id}", hint="taskpilot tasks list")
    return task


def export_tasks(deployment: Deployment, output: Path | None = None) -> tuple[Path, int]:
    """Writes all tasks, the oldest first, as a JSON array into a file (0600) that is whole at any moment; gives path and number."""
    with deployment.store.read() as connection:
        tasks = listings.every_task(connection)
    target = output or deployment.settings.state_dir / EXPORT
    text = json.dumps([task_json(task) for task in tasks], ensure_ascii=False, indent=2)
    try:
        write_whole(target, text.encode("utf-8", errors="backslashreplace") + b"\n")
    except OSError as error:
        if output is None:
            raise
        raise UsageError(f"{target} cannot be written: {error.strerror}", hint="name another file with --output") from error
    return target, len(tasks)


def write_whole(target: Path, data: bytes) -> None:
    """Puts a file (0600) in place in one step: a reader sees the old one or the new one, never half of it. Raises OSError."""
    beside = target.with_name(f"{target.name}.{os.getpid()}.part")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def list_decisions(
    deployment: Deployment,
    page: Page,
    *,
    run_id: str | None = None,
    job: str | None = None,
    status: str | None = None,
    verdict: str | None = None,
) -> list[Decision]:
    """A page of decisions, the newest first."""
    run_id = None if run_id is None else parse_id(run_id)
    with deployment.store.read() as connection:
        page = checked_page(page, "decision")
        return listings.decisions_page(connection, page, run_id=run_id, job=job, status=status, verdict=verdict)


def show_decision(deployment: Deployment, decision_id: str) -> Decision:
    """One decision. Raises UsageError or NotFound."""
    decision_id = parse_id(decision_id, noun="decision")
    with deployment.store.read() as connection:
        decision = tasks.get_decision(connection, decision_id)
    if decision is None:
        raise NotFound(f"there is no decision {decision_id}", hint="taskpilot decisions list")
    return decision
