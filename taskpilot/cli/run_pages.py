"""Prints a run: its status, its result, and the commands that answer its questions."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from taskpilot.cli import formatting, output
from taskpilot.deployment import Deployment
from taskpilot.domain.chat import OFFLINE
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.runs import RESUMABLE, Feedback, Run, RunStatus, RunSummary
from taskpilot.domain.steps import StepKind
from taskpilot.domain.tasks import Task, TaskStatus
from taskpilot.domain.text import one_line
from taskpilot.domain.usage import Spend
from taskpilot.messages import questions
from taskpilot.messages.budgets import budget_of
from taskpilot.messages.reasons import next_command, reason_line, reason_sentence
from taskpilot.messages.shapes import summary_json
from taskpilot.services.running import Finished
from taskpilot.views.runs import LogLine, RunDetail, has_output, show_run

TASKS_SHOWN = 50
_STEPS: Final[Mapping[str, str]] = {StepKind.ASK: "LLM call", StepKind.CALL: "tool call", StepKind.APPROVE: "approval"}
_EXPLAINED = frozenset({TaskStatus.REVIEW, TaskStatus.REJECTED, TaskStatus.FAILED})
"""Tasks in these states are listed with their reason."""


def show(detail: RunDetail) -> None:
    """Prints a run with its attempts, tasks and open questions."""
    run = detail.run
    duration, deadline = (formatting.duration(micros / 1_000_000) for micros in (run.active_micros, run.deadline_micros))
    progress = f"{run.progress_done} of {run.progress_total}" if run.progress_done is not None and run.progress_total else ""
    output.print_fields(
        {
            "run": run.id,
            "job": run.job,
            "status": run.status.value,
            "why": reason_sentence(run.reason, now=run.status is RunStatus.WAITING),
            "trigger": run.trigger.value,
            "scheduled": formatting.instant(run.scheduled_for) if run.scheduled_for else "",
            "started": formatting.instant(run.started_at) if run.started_at else "",
            "ended": formatting.instant(run.ended_at) if run.ended_at else "",
            "duration": f"{duration} (deadline {deadline})",
            "progress": progress,
            "model": run.model or "",
            "cost": cost(run.spend, run.model),
            "used": usage(run.spend),
            "parameters": json.dumps(run.parameters, ensure_ascii=False) if run.parameters else "",
            "steps": ", ".join(
                f"{formatting.count(number, _STEPS.get(kind, kind))} {status}" for (kind, status), number in sorted(detail.steps.items())
            ),
            "feedback": "" if detail.feedback is None else _feedback(detail.feedback),
            "trace": run.trace_id,
            "files": str(detail.folder),
            "output": f"taskpilot runs logs {run.id} --output" if has_output(detail.folder) else "",
        }
    )
    if run.result is not None:
        output.say("\nresult")
        output.say(run.result if isinstance(run.result, str) else json.dumps(run.result, ensure_ascii=False, indent=2))
    if detail.raised:
        output.say("\nraised")
        _raised(detail)
    _attempts(detail)
    if detail.tasks:
        output.say()
        tasks_table(detail.tasks, run.id)
    waiting_for(detail)


def log_entry(entry: LogLine) -> str:
    """One line of a run's log."""
    if not entry.time:
        return entry.message
    try:
        time = formatting.instant(datetime.fromisoformat(entry.time))
    except ValueError:
        time = entry.time
    return f"{time} {entry.level:<7} {entry.message}"


def waiting_for(detail: RunDetail) -> None:
    """Prints the run's open questions, each with the commands that answer it."""
    reviews = [task for task in detail.tasks if task.status is TaskStatus.REVIEW]
    asked = [
        *(questions.about_task(task) for task in reviews),
        *(questions.about_decision(decision) for decision in detail.pending),
        *(questions.about_step(detail.run.id, step) for step in detail.uncertain),
    ]
    for question in asked:
        output.say(f"\n{question.sentence}")
        width = max(len(answer) for answer, _ in question.answers) + 1
        for answer, command in question.answers:
            output.say_command(f"  {answer + ':':<{width}}  {command}")
        if question.expires_at is not None:
            output.say(f"  without an answer it is denied at {formatting.instant(question.expires_at)}")
    answered = not detail.pending and not detail.uncertain and not (reviews and detail.run.status is RunStatus.WAITING)
    if detail.run.status in RESUMABLE and answered:
        output.say_command(f"\nnext: taskpilot runs resume {detail.run.id}")
    elif reviews or detail.pending:
        output.say_command(f"\nthen: taskpilot runs resume {detail.run.id}")


def tasks_table(tasks: tuple[Task, ...], run_id: str) -> None:
    """Prints the tasks, those in review first."""
    ordered = sorted(tasks, key=lambda task: (task.status is not TaskStatus.REVIEW, task.id))
    cells = [(task.status.value, task.priority.value, task.title, why(task)) for task in ordered[:TASKS_SHOWN]]
    output.print_table(("status", "priority", "task", "why"), cells, empty="")
    if len(ordered) > TASKS_SHOWN:
        output.say_command(f"and {len(ordered) - TASKS_SHOWN} more: taskpilot tasks list --run {run_id} --limit 1000")


def why(task: Task) -> str:
    """The reason of a task's state, where a list shows it."""
    return task.reason if task.status in _EXPLAINED else ""


def cost(spend: Spend, model: str | None) -> str:
    """The money, or why there is none or no known amount."""
    if model == OFFLINE:
        return "0.00 USD (offline: built-in rules answered instead of a model)"
    return "unknown (a call had no price)" if spend.cost_nano is None else formatting.usd(spend.cost_nano)


def usage(spend: Spend) -> str:
    """Calls and tokens: "2 LLM calls, 1 tool call, tokens 1,200 in, 30 out"."""
    calls = f"{formatting.count(spend.llm_calls, 'LLM call')}, {formatting.count(spend.tool_calls, 'tool call')}"
    return f"{calls}, tokens {formatting.tokens(spend.usage)}"


def _feedback(given: Feedback) -> str:
    note = f": {given.note}" if given.note else ""
    return f"{given.verdict.value}, by {given.given_by}, {formatting.instant(given.given_at)}{note}"


def _attempts(detail: RunDetail) -> None:
    if len(detail.attempts) < 2:
        return
    output.say()
    cells = [
        (
            str(one.number),
            one.status.value,
            formatting.instant(one.started_at),
            formatting.duration(one.active_micros / 1_000_000),
            reason_line(one.reason),
        )
        for one in detail.attempts
    ]
    output.print_table(("attempt", "status", "started", "duration", "why"), cells, empty="")


SKIPS = frozenset({ExitCode.SKIPPED, ExitCode.SKIPPED_OVERLAP})


def tell(deployment: Deployment, finished: Finished, *, as_json: bool, quiet: bool, skip_ok: bool = False) -> int:
    """Prints the result, as JSON or for people, and gives the exit code."""
    code = finished.exit_code
    if as_json:
        output.print_json_line(summary_json(finished.summary))
    elif quiet:
        if code is not ExitCode.SUCCEEDED and code not in SKIPS:
            output.echo_err(formatting.with_folders(cause(finished)))
    else:
        _page(deployment, finished)
    return int(ExitCode.SUCCEEDED) if skip_ok and code in SKIPS else int(code)


def cause(finished: Finished) -> str:
    """One line: the job, why it did not succeed, and the command that shows more."""
    summary = finished.summary
    why = one_line(_why(summary), limit=400) or finished.exit_code.meaning
    where = f"; details: taskpilot runs show {summary.run_id}" if summary.run_id else ""
    return f"taskpilot: {summary.job}: {summary.status}: {why}{where}"


def _page(deployment: Deployment, finished: Finished) -> None:
    summary = finished.summary
    why = _why(summary)
    if summary.run_id is None or finished.exit_code in SKIPS:
        output.tell(f"{summary.job}: {summary.status}: {why}" if why else f"{summary.job}: {summary.status}")
        if command := next_command(summary.job, summary.reason):
            output.say_command(f"next: {command}")
        return
    if summary.result is not None:
        output.say(summary.result if isinstance(summary.result, str) else json.dumps(summary.result, ensure_ascii=False, indent=2))
        output.say()
    detail = show_run(deployment, summary.run_id)
    if detail.tasks:
        tasks_table(detail.tasks, summary.run_id)
        output.say()
    ended = f"{summary.job} {summary.status} {_took(detail.run)}"
    output.tell(f"{ended}: {one_line(why, limit=500)}" if why else ended)
    _raised(detail)
    output.say(f"cost: {cost(detail.run.spend, detail.run.model)}\nused: {usage(detail.run.spend)}")
    if detail.run.spend.cost_nano is None:
        output.tell("Without a price, the budget limits only calls and tokens. Give the model a price in prices.toml in the root.")
    output.tell(f"budget: {budget_of(deployment.job(summary.job))}")
    waiting_for(detail)
    output.say_command(f"details: taskpilot runs show {summary.run_id}")
    if detail.run.status in (RunStatus.FAILED, RunStatus.LOST) and has_output(detail.folder):
        output.say_command(f"output: taskpilot runs logs {summary.run_id} --output --full")


def _raised(detail: RunDetail) -> None:
    for line in detail.raised.splitlines():
        output.say(f"  {line}")


def _took(run: Run) -> str:
    """Like `in 12.4s`, or of several attempts `after 3 attempts in 5m10s, 12.4s of it active`."""
    active = formatting.duration(run.active_micros / 1_000_000)
    if run.attempts < 2 or run.started_at is None or run.ended_at is None:
        return f"in {active}"
    wall = formatting.duration((run.ended_at - run.started_at).total_seconds())
    return f"after {run.attempts} attempts in {wall}, {active} of it active"


def _why(summary: RunSummary) -> str:
    """The reason, in the present tense if the run waits or did not start."""
    return reason_sentence(summary.reason, now=summary.run_id is None or summary.status == RunStatus.WAITING)
