"""Reads tasks and decisions: lists, and one of each."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision, Grant
from taskpilot.domain.errors import NotFound, UsageError
from taskpilot.domain.tasks import Task
from taskpilot.files import atomic_write
from taskpilot.messages.shapes import task_json
from taskpilot.store import listings, tasks
from taskpilot.store.grants import all_grants
from taskpilot.store.ids import find_id
from taskpilot.store.listings import Page

EXPORT: Final = ".tasks.json"


def list_tasks(
    deployment: Deployment, page: Page, *, run_id: str | None = None, job: str | None = None, statuses: Iterable[str] = ()
) -> list[Task]:
    """A page of tasks, newest first."""
    with deployment.store.read() as connection:
        run_id = None if run_id is None else find_id(connection, run_id)
        return listings.tasks_page(connection, page, run_id=run_id, job=job, statuses=statuses)


def show_task(deployment: Deployment, task_id: str) -> Task:
    """One task. Raises UsageError or NotFound."""
    with deployment.store.read() as connection:
        task_id = find_id(connection, task_id, noun="task")
        task = tasks.get_task(connection, task_id)
    if task is None:
        raise NotFound(f"there is no task {task_id}", hint="taskpilot tasks list")
    return task


def export_tasks(deployment: Deployment, output: Path | None = None) -> tuple[Path, int]:
    """Writes all tasks, oldest first, as a JSON array to a file (0600), atomically. Returns the path and the number of tasks."""
    with deployment.store.read() as connection:
        every = listings.every_task(connection)
    target = output or deployment.settings.state_dir / EXPORT
    text = json.dumps([task_json(task) for task in every], ensure_ascii=False, indent=2)
    try:
        atomic_write(target, text.encode("utf-8", errors="backslashreplace") + b"\n", durable=True)
    except OSError as error:
        if output is None:
            raise
        raise UsageError(f"{target} cannot be written: {error.strerror}", hint="name another file with --output") from error
    return target, len(every)


def list_decisions(
    deployment: Deployment,
    page: Page,
    *,
    run_id: str | None = None,
    job: str | None = None,
    statuses: Iterable[str] = (),
    verdict: str | None = None,
) -> list[Decision]:
    """A page of decisions, newest first."""
    with deployment.store.read() as connection:
        run_id = None if run_id is None else find_id(connection, run_id)
        return listings.decisions_page(connection, page, run_id=run_id, job=job, statuses=statuses, verdict=verdict)


def list_grants(deployment: Deployment) -> list[Grant]:
    """The standing grants, newest first."""
    with deployment.store.read() as connection:
        return all_grants(connection)


def show_decision(deployment: Deployment, decision_id: str) -> Decision:
    """One decision. Raises UsageError or NotFound."""
    with deployment.store.read() as connection:
        decision_id = find_id(connection, decision_id, noun="decision")
        decision = tasks.get_decision(connection, decision_id)
    if decision is None:
        raise NotFound(f"there is no decision {decision_id}", hint="taskpilot decisions list")
    return decision
