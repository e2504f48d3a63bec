"""`taskpilot runs`: show, cancel and resume runs."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import click

from taskpilot.cli import completion, formatting, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import global_options, json_option, next_page, page_options, person_options, status_option, utc_option
from taskpilot.domain.ids import short_id
from taskpilot.domain.steps import StepAnswer


def step_answer(step_id: str | None, *, done: str | None, again: bool, fail: bool) -> StepAnswer | None:
    """The answer given by the options; None without one. Raises click.UsageError for an incomplete or ambiguous one."""
    given = [name for name, value in (("--done", done is not None), ("--again", again), ("--fail", fail)) if value]
    if step_id is None:
        if given:
            raise click.UsageError(f"{given[0]} needs --step ID; `taskpilot runs show RUN` shows the id")
        return None
    if len(given) != 1:
        raise click.UsageError("--step needs exactly one of --done JSON, --again and --fail")
    if done is not None:
        return StepAnswer(step_id, "done", _json(done))
    return StepAnswer(step_id, "again" if again else "fail")


def _json(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--done is not valid JSON: {error}; text needs double quotes: --done '\"TICKET-7\"'") from None


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not valid JSON")


STATUSES = ("queued", "running", "waiting", "succeeded", "failed", "timed_out", "cancelled", "denied", "budget_exceeded", "lost")
RESUMED = ("waiting", "queued", "lost", "failed", "timed_out", "budget_exceeded")
"""The states of runs that Tab offers to `runs resume`."""


@click.group(name="runs", cls=Noun, default="list")
def command() -> None:
    """Show, cancel and resume runs.

    \b
    Examples:
      taskpilot runs
      taskpilot runs --status waiting
      taskpilot runs show 7f732632
    """


@command.command(name="list")
@click.option("--job", help="Only runs of this job.", shell_complete=completion.jobs)
@status_option(STATUSES, f"Only runs in these states: {', '.join(STATUSES)}.")
@page_options("run")
@json_option
def list_(
    *,
    job: str | None,
    statuses: tuple[str, ...],
    limit: int,
    before: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """List runs, newest first.

    The id is the last 8 characters; every command takes it, and `last` or JOB:last for the newest run.

    \b
    Examples:
      taskpilot runs --job triage
      taskpilot runs list --status failed,lost --since yesterday
    """
    from taskpilot.cli import bootstrap
    from taskpilot.domain.runs import RunStatus
    from taskpilot.messages.reasons import reason_line
    from taskpilot.messages.shapes import run_json
    from taskpilot.store.listings import Page
    from taskpilot.views.runs import list_runs

    with bootstrap.deployment() as deployment:
        found = list_runs(deployment, Page(limit, before, since, until), job=job, statuses=statuses)
        now = deployment.now()
    if as_json:
        output.print_json([run_json(run) for run in found])
        return
    cells = [
        (
            short_id(run.id),
            run.job,
            run.status.value,
            formatting.listed(run.started_at or run.created_at, now),
            formatting.duration(run.active_micros / 1_000_000),
            formatting.short_usd(run.spend.cost_nano),
            reason_line(run.reason, now=run.status is RunStatus.WAITING),
        )
        for run in found
    ]
    output.print_table(("id", "job", "status", "started", "duration", "cost", "why"), cells, empty="no runs")
    output.print_next_page(found, limit, next_page("runs", short_id(found[-1].id)) if found else "")


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@click.option("--steps", "with_steps", is_flag=True, help="Show what its agents and tools did, too.")
@utc_option
@json_option
def show(run_id: str, *, with_steps: bool, as_json: bool) -> None:
    """Show one run: status, attempts, tasks, cost and what it waits for.

    \b
    Examples:
      taskpilot runs show 7f732632
    """
    from taskpilot.cli import bootstrap, run_pages
    from taskpilot.views.runs import detail_json, show_run
    from taskpilot.views.steps import run_steps

    with bootstrap.deployment() as deployment:
        detail = show_run(deployment, run_id)
        steps = list(run_steps(deployment, detail.run.id)) if with_steps else []
    if as_json:
        output.print_json(detail_json(detail) | ({"steps": steps} if with_steps else {}))
        return
    run_pages.show(detail)
    if steps:
        from taskpilot.cli.step_pages import show_steps

        output.say()
        show_steps(steps, detail.run.id)


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@click.option("--full", is_flag=True, help="Show all that is recorded; without it, long texts are cut.")
@utc_option
@json_option
def steps(run_id: str, *, full: bool, as_json: bool) -> None:
    """Show what the agents and tools of a run did.

    Each prompt, reply, tool call, its arguments and its result, in order. Secrets are masked.

    \b
    Examples:
      taskpilot runs steps last
      taskpilot runs steps 7f732632 --full --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.views.runs import show_run
    from taskpilot.views.steps import run_steps

    with bootstrap.deployment() as deployment:
        run = show_run(deployment, run_id).run
        made = list(run_steps(deployment, run.id, full=full))
    if as_json:
        output.print_json(made)
    elif made:
        from taskpilot.cli.step_pages import show_steps

        show_steps(made, run.id)
    else:
        output.echo_err("the run has no steps: its job asked no model, called no tool and ran no named step")


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@click.argument("name", required=False)
@click.option("--save", "target", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Copy them into this folder.")
@json_option
def artifacts(run_id: str, name: str | None, *, target: Path | None, as_json: bool) -> None:
    """List the files that a run wrote, print one, or save them.

    With a NAME the file's content is printed. Nothing is overwritten by --save.

    \b
    Examples:
      taskpilot runs artifacts last
      taskpilot runs artifacts 7f732632 report.md
      taskpilot runs artifacts 7f732632 --save reports
    """
    from taskpilot.cli import bootstrap
    from taskpilot.views.artifacts import opened, run_artifacts, save_artifacts

    with bootstrap.deployment() as deployment:
        if name is not None and target is None:
            with opened(deployment, run_id, name) as file:
                output.copy_file(file, name)
            return
        found = run_artifacts(deployment, run_id)
        if target is not None:
            names = [name] if name is not None else [one["name"] for one in found]
            for path in save_artifacts(deployment, run_id, names, target):
                output.say_line(str(path))
            return
    if as_json:
        output.print_json(found)
        return
    cells = [(one["name"], f"{one['bytes']:,}", one["sha256"][:12], one["path"]) for one in found]
    output.print_table(("name", "bytes", "sha256", "path"), cells, empty="the run wrote no artifact", spare=("path", "sha256"))


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@click.option("--model", metavar="NAME", help="Model to use.  [default: that of the run]")
@click.option("--json", "as_json", is_flag=True, help="Print only a summary, as one line of JSON.")
@click.option("--quiet", is_flag=True, help="Print one line if the run does not succeed, else nothing.")
def rerun(run_id: str, *, model: str | None, as_json: bool, quiet: bool) -> int:
    """Start a new run with the same parameters and input files.

    It starts from the beginning and uses nothing of the old run's record. `taskpilot runs resume` continues a run instead.

    \b
    Examples:
      taskpilot runs rerun last
      taskpilot runs rerun 7f732632 --model gpt-4o
    """
    from taskpilot.cli import bootstrap, run_pages
    from taskpilot.cli.progress import display_for

    given = global_options()
    given.subject = f"run {run_id}"
    settings = bootstrap.settings()
    from taskpilot.app.wiring import App
    from taskpilot.services.planning import request_again
    from taskpilot.services.running import find_run

    app = App(settings)
    try:
        finished = app.run(request_again(find_run(app.deployment, run_id), model), display_for(quiet=quiet))
        given.exit_code = int(finished.exit_code)
        return run_pages.tell(app.deployment, finished, as_json=as_json, quiet=quiet)
    finally:
        app.deployment.close()


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@click.option("--output", "of_process", is_flag=True, help="Show what the job's process printed instead of the log.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended or waits; with --json a line for each entry.")
@click.option("--full", is_flag=True, help="With --output: the whole traceback of an error, not only the frames of your own files.")
@utc_option
@json_option
def logs(run_id: str, *, of_process: bool, follow: bool, full: bool, as_json: bool) -> None:
    """Show the log of a run, or what its process printed and the traceback of its error.

    \b
    Examples:
      taskpilot runs logs last -f
      taskpilot runs logs 7f732632 --output --full
    """
    from taskpilot.cli import bootstrap, run_pages
    from taskpilot.views.runs import run_errors, run_log, run_output

    if full and not of_process:
        raise click.UsageError("--full needs --output")

    with bootstrap.deployment() as deployment:
        shown: Iterator[tuple[Any, str]]
        if of_process:
            printed_lines = run_output(deployment, run_id, follow=follow)
            errors = (line for error in run_errors(deployment, run_id, full=full) for line in ["", *error.splitlines()])
            shown = ((text, text) for text in chain(printed_lines, errors))
        else:
            shown = ((asdict(entry), run_pages.log_entry(entry)) for entry in run_log(deployment, run_id, follow=follow))
        if as_json and not follow:
            output.print_json([value for value, _text in shown])
            return
        printed = False
        for value, text in shown:
            printed = True
            output.print_json_line(value) if as_json else output.say_line(text)
            if follow:
                output.flush()
    if not printed:
        output.echo_err("the job's process printed nothing" if of_process else "the run has no log yet")


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run", "queued", "running", "waiting"))
def cancel(run_id: str) -> None:
    """Cancel a run that is queued, running or waiting.

    \b
    Examples:
      taskpilot runs cancel 7f732632
    """
    from taskpilot.cli import bootstrap
    from taskpilot.messages.actions import cancelled
    from taskpilot.services.running import cancel_run

    with bootstrap.deployment() as deployment:
        output.tell(cancelled(cancel_run(deployment, run_id)))


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@click.option("--correct", is_flag=True, help="The result was correct.")
@click.option("--wrong", is_flag=True, help="The result was wrong.")
@person_options
def feedback(run_id: str, *, correct: bool, wrong: bool, note: str, by: str | None) -> None:
    """Record whether a run's result was correct.

    A later answer for the same run replaces the earlier one.

    \b
    Examples:
      taskpilot runs feedback 7f732632 --correct
      taskpilot runs feedback 7f732632 --wrong \\
        --note "Ms Weber has no account here"
    """
    if correct is wrong:
        raise click.UsageError("give either --correct or --wrong")
    from taskpilot.cli import bootstrap, options
    from taskpilot.domain.runs import FeedbackVerdict
    from taskpilot.messages.actions import rated
    from taskpilot.services.approvals import give_feedback

    verdict = FeedbackVerdict.CORRECT if correct else FeedbackVerdict.WRONG
    with bootstrap.deployment() as deployment:
        output.tell(rated(give_feedback(deployment, run_id, verdict, by=options.name_of(by), note=note)))


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run", *RESUMED))
@click.option("--model", metavar="NAME", help="Model to use from here on.  [default: the run's own]")
@click.option("--step", "step_id", metavar="ID", help="The step whose result is unknown; add --done, --again or --fail.")
@click.option("--done", metavar="JSON", help="The step was done; JSON is its result.")
@click.option("--again", is_flag=True, help="The step was not done; run it again.")
@click.option("--fail", is_flag=True, help="Record the step as failed.")
@click.option("--json", "as_json", is_flag=True, help="Print only a summary, as one line of JSON.")
@click.option("--quiet", is_flag=True, help="Print one line if the run does not succeed, else nothing.")
def resume(
    run_id: str, *, model: str | None, step_id: str | None, done: str | None, again: bool, fail: bool, as_json: bool, quiet: bool
) -> int:
    """Resume a run. Recorded steps are not run or paid for again.

    `taskpilot runs show RUN` shows what a run waits for.

    \b
    Examples:
      taskpilot runs resume 7f732632
      taskpilot runs resume 7f732632 \\
        --step 08d859e4 --done '"TICKET-7"'
    """
    from taskpilot.cli import bootstrap, run_pages
    from taskpilot.cli.progress import display_for

    given = global_options()
    given.subject = f"run {run_id}"
    answer = step_answer(step_id, done=done, again=again, fail=fail)
    settings = bootstrap.settings()
    from taskpilot.app.wiring import App

    app = App(settings)
    try:
        finished = app.resume(run_id, model=model, answer=answer, display=display_for(quiet=quiet))
        given.exit_code = int(finished.exit_code)
        return run_pages.tell(app.deployment, finished, as_json=as_json, quiet=quiet)
    finally:
        app.deployment.close()
