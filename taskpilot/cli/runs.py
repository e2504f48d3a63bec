"""`taskpilot runs`: show, cancel and resume runs."""

import json
from datetime import datetime

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
@utc_option
@json_option
def show(run_id: str, *, as_json: bool) -> None:
    """Show one run: status, attempts, tasks, cost and what it waits for.

    \b
    Examples:
      taskpilot runs show 7f732632
    """
    from taskpilot.cli import bootstrap, run_pages
    from taskpilot.views.runs import detail_json, show_run

    with bootstrap.deployment() as deployment:
        detail = show_run(deployment, run_id)
    if as_json:
        output.print_json(detail_json(detail))
    else:
        run_pages.show(detail)


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@click.option("--output", "of_process", is_flag=True, help="Show what the job's process printed instead of the log.")
@json_option
def logs(run_id: str, *, of_process: bool, as_json: bool) -> None:
    """Show the log of a run, or what its process printed.

    \b
    Examples:
      taskpilot runs logs 7f732632
      taskpilot runs logs 7f732632 --output
    """
    from taskpilot.cli import bootstrap
    from taskpilot.views.runs import run_log, run_output

    with bootstrap.deployment() as deployment:
        if of_process:
            lines = run_output(deployment, run_id)
            if as_json:
                output.print_json(list(lines))
                return
            printed = False
            for text in lines:
                printed = True
                output.say_line(text)
            if not printed:
                output.echo_err("the job's process printed nothing")
            return
        entries = run_log(deployment, run_id)
        if as_json:
            output.print_json([{"time": entry.time, "level": entry.level, "message": entry.message} for entry in entries])
            return
        for entry in entries:
            output.say_line(f"{entry.time} {entry.level:<7} {entry.message}" if entry.time else entry.message)


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
