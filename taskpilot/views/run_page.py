"""What the page of a run shows: its spans with what is in each step, its files and the end of its log, all of it bounded."""

import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskpilot.deployment import Deployment
from taskpilot.store import steps as store_steps
from taskpilot.telemetry.logs import RUN_FILE
from taskpilot.views.artifacts import artifact_sizes
from taskpilot.views.runs import LogLine, RunDetail, log_line, show_run
from taskpilot.views.steps import step_json
from taskpilot.views.traces import TraceLine, trace_of

SPANS: Final = 100
"""On one page; more are on the next."""
_TEXT_BUDGET: Final = 40_000
"""Characters of all steps of a page together."""
_TEXT_LEAST: Final = 240
_TEXT_MOST: Final = 4_000
_LOG_BYTES: Final = 16_384
_LOG_LINES: Final = 60
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Span:
    """One line of the waterfall. Left and width are thousandths of its attempt."""

    line: TraceLine
    left: int
    width: int
    step: dict[str, Any] | None
    """What is in a step, as the API has it; its input, result and error as texts that are cut."""


@dataclass(frozen=True, slots=True)
class RunPage:
    """Everything."""

    detail: RunDetail
    spans: list[Span]
    number: int
    """Of all spans."""
    artifacts: list[tuple[str, int]]
    log: list[LogLine]


def run_page(deployment: Deployment, run_id: str, *, start: int = 0) -> RunPage:
    """The page of a run, with its spans from `start` on. Raises UsageError or NotFound."""
    detail = show_run(deployment, run_id)
    run_id = detail.run.id
    _run, lines = trace_of(deployment, run_id)
    shown = lines[start : start + SPANS]
    wanted = {line.step_id for line in shown if line.step_id}
    limit = max(_TEXT_LEAST, min(_TEXT_MOST, _TEXT_BUDGET // (len(wanted) * 2 or 1)))
    with deployment.store.read() as connection:
        made = {step.id: step for step in store_steps.steps_of(connection, run_id) if step.id in wanted}
    contents = {name: _cut(step_json(step, deployment.redactor, full=False), limit) for name, step in made.items()}
    return RunPage(
        detail,
        _placed(lines, shown, contents, deployment.now()),
        len(lines),
        artifact_sizes(deployment, run_id),
        log_tail(deployment, run_id),
    )


def step_page(deployment: Deployment, run_id: str, step_id: str, *, limit: int) -> dict[str, Any] | None:
    """One step with each text cut at `limit`; None where the run has no such step. Raises UsageError or NotFound."""
    run_id = show_run(deployment, run_id).run.id
    with deployment.store.read() as connection:
        found = next((step for step in store_steps.steps_of(connection, run_id) if step.id.endswith(step_id)), None)
    return None if found is None else _cut(step_json(found, deployment.redactor, full=True), limit)


def log_tail(deployment: Deployment, run_id: str) -> list[LogLine]:
    """The last lines of the run's log, oldest first; none where it wrote none."""
    try:
        descriptor = os.open(deployment.run_dir(run_id) / RUN_FILE, _OPEN)
    except OSError:
        return []
    with os.fdopen(descriptor, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _LOG_BYTES, 0))
        lines = file.read(_LOG_BYTES).split(b"\n")
    whole = lines if size <= _LOG_BYTES else lines[1:]
    return [log_line(line) for line in whole if line.strip()][-_LOG_LINES:]


def _cut(step: dict[str, Any], limit: int) -> dict[str, Any]:
    return step | {name: _text(step[name], limit) for name in ("input", "result", "error")}


def _text(value: Any, limit: int) -> str:
    """The value for people, at most `limit` characters; empty for nothing."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def _placed(lines: list[TraceLine], shown: list[TraceLine], contents: dict[str, dict[str, Any]], now: datetime) -> list[Span]:
    """The spans, each within the attempt that is above it."""
    spans: list[Span] = []
    first = lines[0] if lines else None
    kept = {id(line) for line in shown}
    for line in lines:
        if line.depth == 0 or first is None:
            first = line
        if id(line) not in kept:
            continue
        begin, end = first.started_at, max(first.ended_at or now, first.started_at)
        whole = max((end - begin).total_seconds(), 0.001)
        left = min(max((line.started_at - begin).total_seconds() / whole, 0.0), 1.0)
        until = line.ended_at or (first.ended_at or now)
        width = min(max((until - line.started_at).total_seconds() / whole, 0.004), 1.0 - left)
        spans.append(Span(line, round(left * 1000), max(round(width * 1000), 4), contents.get(line.step_id)))
    return spans
