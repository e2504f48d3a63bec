"""`taskpilot tasks`: show, approve and reject the tasks that the model planned."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import click

from taskpilot.cli import answers, completion, formatting, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option, next_page, page_options, person_options, status_option, utc_option
from taskpilot.domain.ids import short_id
from taskpilot.messages.actions import Answered

STATUSES = ("pending", "approved", "rejected", "review", "executed", "failed")


@click.group(name="tasks", cls=Noun, default="list")
def command() -> None:
    """Show, approve and reject the tasks that the model planned.

    \b
    Examples:
      taskpilot tasks
      taskpilot tasks --status review
    """


@command.command(name="list")
@click.option("--run", "run_id", metavar="RUN", help="Only tasks of this run.", shell_complete=completion.ids("run"))
@click.option("--job", help="Only tasks of this job.", shell_complete=completion.jobs)
@status_option(STATUSES, f"Only tasks in these states: {', '.join(STATUSES)}; review waits for you.")
@page_options("task")
@json_option
def list_(
    *,
    run_id: str | None,
    job: str | None,
    statuses: tuple[str, ...],
    limit: int,
    before: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """List tasks, newest first.

    \b
    Examples:
      taskpilot tasks --status review
      taskpilot tasks list --job triage --json
    """
    from taskpilot.cli import bootstrap, run_pages
    from taskpilot.messages.shapes import task_json
    from taskpilot.store.listings import Page
    from taskpilot.views import tasks

    with bootstrap.deployment() as deployment:
        found = tasks.list_tasks(deployment, Page(limit, before, since, until), run_id=run_id, job=job, statuses=statuses)
    if as_json:
        output.print_json([task_json(one) for one in found])
        return
    cells = [(short_id(one.id), one.job, one.status.value, one.priority.value, one.title, run_pages.why(one)) for one in found]
    output.print_table(("id", "job", "status", "priority", "title", "why"), cells, empty="no tasks", spare=("job", "priority"))
    output.print_next_page(found, limit, next_page("tasks", short_id(found[-1].id)) if found else "")


@command.command()
@click.argument("task_id", metavar="TASK", shell_complete=completion.ids("task"))
@utc_option
@json_option
def show(task_id: str, *, as_json: bool) -> None:
    """Show one task with its description.

    \b
    Examples:
      taskpilot tasks show d19ee0f9
    """
    from taskpilot.cli import bootstrap
    from taskpilot.messages.shapes import task_json
    from taskpilot.views import tasks

    with bootstrap.deployment() as deployment:
        one = tasks.show_task(deployment, task_id)
    if as_json:
        output.print_json(task_json(one))
        return
    output.print_fields(
        {
            "task": one.id,
            "run": one.run_id,
            "job": one.job,
            "status": one.status.value,
            "priority": one.priority.value,
            "title": one.title,
            "why": one.reason,
            "created": formatting.instant(one.created_at),
            "updated": formatting.instant(one.updated_at),
        }
    )
    if one.description:
        output.say()
        output.say(one.description)
    if one.status.value == "review":
        output.say_command(f"\nnext: taskpilot tasks approve {one.id}\n  or: taskpilot tasks reject {one.id}")


@command.command()
@click.argument("task_ids", nargs=-1, metavar="[TASK]...", shell_complete=completion.ids("task", "review", "failed"))
@answers.all_option("task")
@click.option("--repeat", is_flag=True, help="Of failed tasks: the calls that they made may be made again.")
@person_options
def approve(task_ids: tuple[str, ...], *, everything: bool, repeat: bool, by: str | None, note: str) -> None:
    """Approve tasks that wait for you, or have failed.

    A failed task is executed again. The calls that it made are listed; they are not made again without --repeat.

    \b
    Examples:
      taskpilot tasks approve d19ee0f9 --note ok
    """
    from taskpilot.services.approvals import approve_task

    _answer(task_ids, partial(approve_task, repeat=repeat), "approve", everything=everything, by=by, note=note)


@command.command()
@click.argument("task_ids", nargs=-1, metavar="[TASK]...", shell_complete=completion.ids("task", "review"))
@answers.all_option("task")
@person_options
def reject(task_ids: tuple[str, ...], *, everything: bool, by: str | None, note: str) -> None:
    """Reject tasks that wait for you.

    \b
    Examples:
      taskpilot tasks reject d19ee0f9 --note done
    """
    from taskpilot.services.approvals import reject_task

    _answer(task_ids, reject_task, "reject", everything=everything, by=by, note=note)


@command.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--output", "target", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The same as FILE.")
def export(file: Path | None, *, target: Path | None) -> None:
    """Write all tasks to FILE as JSON.

    Without FILE, to .tasks.json in the state folder.

    \b
    Examples:
      taskpilot tasks export tasks.json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.views.tasks import export_tasks

    if file is not None and target is not None:
        raise click.UsageError("give the file once")
    with bootstrap.deployment() as deployment:
        path, number = export_tasks(deployment, file or target)
    output.say(f"wrote {formatting.count(number, 'task')} to {path}")


def _answer(ids: tuple[str, ...], service: Callable[..., Answered], verb: str, *, everything: bool, by: str | None, note: str) -> None:
    from taskpilot.cli import bootstrap
    from taskpilot.cli.options import name_of
    from taskpilot.store.listings import Page
    from taskpilot.views import tasks

    with bootstrap.deployment() as deployment:

        def waiting() -> list[tuple[str, str]]:
            found = tasks.list_tasks(deployment, Page(answers.MOST), statuses=("review",))
            return [(one.id, one.title) for one in found]

        wanted = answers.chosen(ids, everything=everything, waiting=waiting, verb=verb, noun="task")
        answers.answer_each(wanted, lambda one: service(deployment, one, by=name_of(by), note=note))
