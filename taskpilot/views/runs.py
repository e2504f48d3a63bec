"""Reads runs: lists, one run with its details, its log and output, and its summary."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Final

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision
from taskpilot.domain.errors import NotFound, StoreError
from taskpilot.domain.runs import Attempt, Feedback, Run, RunSummary
from taskpilot.domain.steps import Step
from taskpilot.domain.tasks import Task
from taskpilot.messages import shapes
from taskpilot.store import listings, runs, tasks
from taskpilot.store.database import Store
from taskpilot.store.ids import find_id
from taskpilot.store.listings import Page
from taskpilot.telemetry.logs import RUN_FILE


def summarize(store: Store, run_id: str) -> RunSummary:
    """The summary of a run. Raises NotFound."""
    with store.read() as connection:
        run = runs.get_run(connection, run_id)
        counts = tasks.task_counts(connection, run_id)
    if run is None:
        raise no_run(run_id)
    values = shapes.run_json(run)
    return RunSummary(**{name: values[name] for name in _SUMMARY}, reason=run.reason, tasks=counts)


_SUMMARY: Final = [one.name for one in fields(RunSummary) if one.name not in ("reason", "tasks")]
OUTPUT_LOG: Final = "output.log"


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run and what belongs to it."""

    run: Run
    attempts: tuple[Attempt, ...]
    tasks: tuple[Task, ...]
    steps: dict[tuple[str, str], int]
    """The number of steps by kind and status."""
    pending: tuple[Decision, ...]
    """Tool calls that wait for approval."""
    uncertain: tuple[Step, ...]
    """Tool calls of which a person has to say whether they happened."""
    feedback: Feedback | None
    """A person's rating of its result."""
    folder: Path
    """The folder of its logs and artifacts."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a run's log; untrusted."""

    time: str
    level: str
    message: str


def list_runs(deployment: Deployment, page: Page, *, job: str | None = None, statuses: Iterable[str] = ()) -> list[Run]:
    """A page of runs, newest first; a running one with its duration until now."""
    with deployment.store.read() as connection:
        found = listings.runs_page(connection, page, job=job, statuses=statuses)
        return listings.active_until(connection, found, deployment.now(), deployment.boot())


def show_run(deployment: Deployment, run_id: str) -> RunDetail:
    """One run with its attempts, tasks and open questions. Raises UsageError or NotFound."""
    with deployment.store.read() as connection:
        run_id = find_id(connection, run_id)
        run = runs.get_run(connection, run_id)
        if run is None:
            raise no_run(run_id)
        (run,) = listings.active_until(connection, [run], deployment.now(), deployment.boot())
        return RunDetail(
            run=run,
            attempts=tuple(runs.attempts_of(connection, run_id)),
            tasks=tuple(tasks.tasks_of(connection, run_id)),
            steps=listings.step_counts(connection, run_id),
            pending=tuple(tasks.pending_decisions(connection, run_id)),
            uncertain=tuple(listings.uncertain_steps(connection, run_id)),
            feedback=runs.feedback_on(connection, run_id),
            folder=deployment.run_dir(run_id),
        )


def detail_json(detail: RunDetail) -> dict[str, Any]:
    """The run with its details as a JSON value."""
    return shapes.run_json(detail.run) | {
        "attempt_list": [shapes.attempt_json(attempt) for attempt in detail.attempts],
        "tasks": [shapes.task_json(task) for task in detail.tasks],
        "pending_decisions": [shapes.decision_json(decision) for decision in detail.pending],
        "uncertain_steps": [shapes.step_json(step) for step in detail.uncertain],
        "feedback": None if detail.feedback is None else shapes.feedback_json(detail.feedback),
        "folder": str(detail.folder),
    }


def run_log(deployment: Deployment, run_id: str) -> Iterator[LogLine]:
    """The lines of the run's log; none if it wrote no log. Raises UsageError or NotFound."""
    with _opened(deployment, run_id, RUN_FILE) as stream:
        for raw in stream or ():
            yield _log_line(raw)


def run_output(deployment: Deployment, run_id: str) -> Iterator[str]:
    """The lines that the job's process printed, with secrets masked and bytes that are not UTF-8 escaped.

    The file itself is not masked: the process writes to it directly. Raises UsageError or NotFound.
    """
    masked = deployment.redactor.masked
    with _opened(deployment, run_id, OUTPUT_LOG) as stream:
        for raw in stream or ():
            yield masked(raw.rstrip(b"\n").decode("utf-8", errors="backslashreplace"))


def has_output(folder: Path) -> bool:
    """Whether the process of the run with this folder printed anything."""
    try:
        return (folder / OUTPUT_LOG).lstat().st_size > 0
    except OSError:
        return False


def no_run(run_id: str) -> NotFound:
    """The error for an unknown run id."""
    return NotFound(f"there is no run {run_id}", hint="taskpilot runs list")


@contextmanager
def _opened(deployment: Deployment, run_id: str, name: str) -> Iterator[BinaryIO | None]:
    with deployment.store.read() as connection:
        run_id = find_id(connection, run_id)
        if runs.get_run(connection, run_id) is None:
            raise no_run(run_id)
    path = deployment.run_dir(run_id) / name
    try:
        # The job can write into this folder, so a link in it is not followed.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def _log_line(raw: bytes) -> LogLine:
    text = raw.rstrip(b"\n").decode("utf-8", errors="backslashreplace")
    try:
        entry: Any = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        return LogLine("", "", text)
    level = entry.get("log.level")
    if level is None and isinstance(entry.get("log"), dict):
        level = entry["log"].get("level")
    return LogLine(str(entry.get("@timestamp", "")), str(level or ""), str(entry.get("message", "")))
