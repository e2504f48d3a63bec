"""Reads runs: lists, one run with its details, its log and output, and its summary."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision
from taskpilot.domain.errors import NotFound, StoreError
from taskpilot.domain.reasons import ReasonCode
from taskpilot.domain.runs import Attempt, Feedback, Run, RunStatus, RunSummary
from taskpilot.domain.steps import Step
from taskpilot.domain.tasks import Task
from taskpilot.domain.times import utc_iso
from taskpilot.messages import shapes
from taskpilot.messages.reasons import status_sentence
from taskpilot.store import listings, runs, tasks
from taskpilot.store.database import Store
from taskpilot.store.ids import find_id
from taskpilot.store.listings import Page
from taskpilot.telemetry.job_errors import FILE as ERRORS
from taskpilot.telemetry.job_errors import kept_errors
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
    raised: str = ""
    """Of a failed run, the frames of the user's own files and the last line of what its job raised; untrusted."""


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
        return listings.active_until(connection, found, deployment.boot(), lease=timedelta(seconds=deployment.settings.lease_seconds))


def show_run(deployment: Deployment, run_id: str) -> RunDetail:
    """One run with its attempts, tasks and open questions. Raises UsageError or NotFound."""
    with deployment.store.read() as connection:
        run_id = find_id(connection, run_id)
        run = runs.get_run(connection, run_id)
        if run is None:
            raise no_run(run_id)
        (run,) = listings.active_until(connection, [run], deployment.boot(), lease=timedelta(seconds=deployment.settings.lease_seconds))
        return RunDetail(
            run=run,
            attempts=tuple(runs.attempts_of(connection, run_id)),
            tasks=tuple(tasks.tasks_of(connection, run_id)),
            steps=listings.step_counts(connection, run_id),
            pending=tuple(tasks.pending_decisions(connection, run_id)),
            uncertain=tuple(listings.uncertain_steps(connection, run_id)),
            feedback=runs.feedback_on(connection, run_id),
            folder=deployment.run_dir(run_id),
            raised=_raised(run, deployment.run_dir(run_id)),
        )


def _raised(run: Run, folder: Path) -> str:
    if run.status is not RunStatus.FAILED or run.reason.cause not in (ReasonCode.EXCEPTION, ReasonCode.EVERY_ITEM_FAILED):
        return ""
    return next((error.short for error in kept_errors(folder) if error.attempt == run.attempts), "")


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


def run_log(deployment: Deployment, run_id: str, *, follow: bool = False) -> Iterator[LogLine]:
    """The lines of the run's log; none if it wrote no log. With `follow`, also those to come, until the run has ended or waits.

    A process that was killed could not log its end: a line says how that attempt ended. Raises UsageError or NotFound.
    """
    run_id = _found(deployment, run_id).id
    told: set[object] = set()
    for raw in _lines(deployment, run_id, RUN_FILE, follow=follow):
        entry = _entry(raw) or {}
        if entry.get("event.action") == "run-started":
            yield from _untold_ends(deployment, run_id, told, before=entry.get("taskpilot.attempt"))
        elif entry.get("event.action") == "run-ended":
            told.add(entry.get("taskpilot.run.attempt"))
        yield log_line(raw)
    yield from _untold_ends(deployment, run_id, told)


_ENDED_BADLY: Final = frozenset({RunStatus.LOST, RunStatus.TIMED_OUT, RunStatus.CANCELLED, RunStatus.FAILED})


def _untold_ends(deployment: Deployment, run_id: str, told: set[object], *, before: object = None) -> Iterator[LogLine]:
    """A line for each attempt that ended badly without a line of its own; those before an attempt, or all."""
    run = _found(deployment, run_id)
    with deployment.store.read() as connection:
        attempts = runs.attempts_of(connection, run_id)
    for attempt in attempts:
        earlier = not isinstance(before, int) or attempt.number < before
        if earlier and attempt.ended_at is not None and attempt.status in _ENDED_BADLY and attempt.number not in told:
            told.add(attempt.number)
            message = f"attempt {attempt.number} of {run.job} {status_sentence(attempt.status, attempt.reason)}"
            yield LogLine(utc_iso(attempt.ended_at, timespec="milliseconds"), "error", message)


def run_output(deployment: Deployment, run_id: str, *, follow: bool = False) -> Iterator[str]:
    """The lines that the job's process printed, with secrets masked and bytes that are not UTF-8 escaped; `follow` as above.

    The file itself is not masked: the process writes to it directly. Raises UsageError or NotFound.
    """
    for raw in _lines(deployment, run_id, OUTPUT_LOG, follow=follow):
        yield output_line(deployment, raw)


def output_line(deployment: Deployment, raw: bytes) -> str:
    """One line that the job's process printed, as it is shown."""
    return deployment.redactor.masked(raw.rstrip(b"\n").decode("utf-8", errors="backslashreplace"))


def run_errors(deployment: Deployment, run_id: str, *, full: bool = False) -> list[str]:
    """The tracebacks of the run's attempts: the frames of the user's own files and the last line, or with `full` all of each."""
    return [error.whole if full else error.short for error in kept_errors(deployment.run_dir(_found(deployment, run_id).id))]


def has_output(folder: Path) -> bool:
    """Whether the process of the run with this folder printed anything."""
    try:
        return (folder / ERRORS).exists() or (folder / OUTPUT_LOG).lstat().st_size > 0
    except OSError:
        return False


def no_run(run_id: str) -> NotFound:
    """The error for an unknown run id."""
    return NotFound(f"there is no run {run_id}", hint="taskpilot runs list")


def _lines(deployment: Deployment, run_id: str, name: str, *, follow: bool) -> Iterator[bytes]:
    run_id = _found(deployment, run_id).id
    with GrowingFile(deployment.run_dir(run_id) / name) as file:
        while follow and _found(deployment, run_id).status in _UNDER_WAY:
            yield from file.lines()
            time.sleep(_POLL_SECONDS)
        yield from file.lines(whole=False)


_UNDER_WAY: Final = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})
_POLL_SECONDS: Final = 0.3


def _found(deployment: Deployment, run_id: str) -> Run:
    with deployment.store.read() as connection:
        run_id = find_id(connection, run_id)
        run = runs.get_run(connection, run_id)
    if run is None:
        raise no_run(run_id)
    return run


class GrowingFile:
    """Reads a file of a run that may not exist yet, line by line as it grows. A job can write into that folder: no link is followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BinaryIO | None = None
        self._begun = b""

    def lines(self, *, whole: bool = True) -> Iterator[bytes]:
        """The lines since the last call; without `whole`, also the last one without its end. Raises StoreError."""
        if self._stream is None and (descriptor := self._open()) is not None:
            self._stream = os.fdopen(descriptor, "rb")
        for raw in self._stream or ():
            line, self._begun = self._begun + raw, b""
            if whole and not line.endswith(b"\n"):
                self._begun = line
            else:
                yield line
        if not whole and self._begun:
            begun, self._begun = self._begun, b""
            yield begun

    def _open(self) -> int | None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self._path} cannot be read: {error.strerror}") from error
        return descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes the file."""
        if self._stream is not None:
            self._stream.close()


def log_line(raw: bytes) -> LogLine:
    """One line of a log in ECS JSON; any other text is the message."""
    entry = _entry(raw)
    if entry is None:
        return LogLine("", "", raw.rstrip(b"\n").decode("utf-8", errors="backslashreplace"))
    level = entry.get("log.level")
    if level is None and isinstance(entry.get("log"), dict):
        level = entry["log"].get("level")
    return LogLine(str(entry.get("@timestamp", "")), str(level or ""), str(entry.get("message", "")))


def _entry(raw: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(raw.decode("utf-8", errors="backslashreplace"))
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
