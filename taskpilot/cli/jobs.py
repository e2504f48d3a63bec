"""`taskpilot jobs`: show jobs and their schedules, pause and resume them."""

from typing import Any

import click

from taskpilot.cli import completion, formatting, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import global_options, json_option, person_options, utc_option
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.text import one_line
from taskpilot.domain.times import format_duration


@click.group(name="jobs", cls=Noun, default="list")
def command() -> None:
    """Show jobs and their schedules; pause and resume them.

    \b
    Examples:
      taskpilot jobs
      taskpilot jobs next triage
    """


@command.command(name="list")
@utc_option
@json_option
def list_(*, as_json: bool) -> None:
    """List the jobs with their schedules and last results.

    Files that cannot be loaded are listed on stderr; `taskpilot jobs validate` treats them as an error.

    \b
    Examples:
      taskpilot jobs list
      taskpilot jobs list --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.cli.pasting import pasting
    from taskpilot.domain.times import utc_now
    from taskpilot.views.jobs import line_json, list_jobs

    with bootstrap.deployment() as deployment:
        lines = list_jobs(deployment)
        catalog, settings = deployment.catalog, deployment.settings
    if as_json:
        output.print_json([line_json(line, pasting(settings, global_options())) for line in lines])
    else:
        # A terminal of 80 columns has room for one time.
        brief, now = output.on_terminal(), utc_now()
        cells = []
        for line in lines:
            schedule, fire = line.spec.schedule, line.next_fire
            in_zone = formatting.local(fire, schedule.zone) if schedule else formatting.NONE
            cells.append(
                (
                    line.spec.name,
                    schedule.describe() if schedule else "none",
                    *((formatting.listed(fire, now),) if brief else (in_zone, formatting.instant(fire))),
                    line.last_run.status.value if line.last_run else "never ran",
                    f"by {line.pause.paused_by}" if line.pause else "",
                    line.attention.kind.value if line.attention else "",
                )
            )
        times = ("next",) if brief else ("next run", "in utc")
        headings = ("job", "schedule", *times, "last run", "paused", "needs you")
        output.print_table(headings, cells, empty=f"there is no job in {catalog.directory}")
        if any(line.attention for line in lines):
            output.echo_err("taskpilot status says why, and what to type")
    for file in catalog.broken:
        output.echo_err(f"broken: {file}")


@command.command()
@click.argument("job", shell_complete=completion.jobs)
@utc_option
@json_option
def show(job: str, *, as_json: bool) -> None:
    """Show a job's parameters, limits and tools.

    \b
    Examples:
      taskpilot jobs show triage
    """
    from taskpilot.cli import bootstrap
    from taskpilot.cli.pasting import pasting
    from taskpilot.jobs.parameters import describe_parameters
    from taskpilot.messages import budgets, times
    from taskpilot.messages.attention import attention_words
    from taskpilot.views.jobs import line_json, parameters_json, show_job, type_words

    with bootstrap.deployment() as deployment:
        line, settings = show_job(deployment, job), deployment.settings
    model = line.spec.model or settings.model
    spec = line.spec
    if as_json:
        output.print_json(line_json(line, pasting(settings, global_options())) | {"parameters": parameters_json(line.spec)})
        return
    schedule, last, retry = spec.schedule, line.last_run, spec.retry
    output.print_fields(
        {
            "job": spec.name,
            "file": str(spec.file or ""),
            "schedule": schedule.describe() if schedule else "none",
            "next run": f"{formatting.local(line.next_fire, schedule.zone)} = {formatting.instant(line.next_fire)}" if schedule else "",
            "paused": f"{times.pause_words(line.pause)}; `taskpilot jobs resume {spec.name}` resumes it" if line.pause else "",
            "needs you": "" if line.attention is None else attention_words(line.attention),
            "last run": f"{last.status}, {formatting.instant(last.started_at)}, {last.id}" if last else "never ran",
            "model": model or "set with --model or TASKPILOT_MODEL",
            "deadline": formatting.duration(spec.deadline.total_seconds()),
            "attempts": str(retry.attempts),
            "retry delay": f"{format_duration(retry.delay)}, at most {format_duration(retry.max_delay)}" if retry.delay else "",
            "retry on": ", ".join(spec.retry_on),
            "overlap": spec.overlap,
            "budget": budgets.budget_of(spec),
            "tools": ", ".join(tool.name for tool in spec.tools),
        }
    )
    if spec.description:
        output.say()
        output.say(spec.description)
    parameters = describe_parameters(spec)
    if parameters:
        output.say()
        cells = [(one.name, type_words(one), one_line(one.default_text or "required", limit=60)) for one in parameters]
        output.print_table(("parameter", "type", "default"), cells, empty="")
    output.say_command(f"\nnext: taskpilot run {spec.name}" + "".join(f" -p {one.name}=..." for one in parameters if one.required))


@command.command()
@click.argument("job", required=False, shell_complete=completion.jobs)
@json_option
def validate(job: str | None, *, as_json: bool) -> int:
    """Load every job file and the policy rules; run nothing.

    Exits with 78 if a file is broken. If a Pushgateway is configured, each new job's counters are
    pushed as zeros, so that Prometheus sees its first run as an increase.

    Warns of scheduled times that a change of daylight saving time skips or repeats within 400 days. A warning does not change the exit
    code.

    \b
    Examples:
      taskpilot jobs validate
    """
    from taskpilot.cli import bootstrap
    from taskpilot.services.metrics import push_quietly
    from taskpilot.views.jobs import validate_jobs, warning_json

    with bootstrap.deployment() as deployment:
        report = validate_jobs(deployment, job)
        pushed = push_quietly(deployment, job) if report.ok and deployment.settings.pushgateway_url else None
    if as_json:
        broken: list[dict[str, Any]] = [{"file": str(file.path), "line": file.line, "cause": file.cause} for file in report.broken]
        warnings = [warning_json(warning) for warning in report.warnings]
        found = {"ok": report.ok, "jobs": list(report.jobs), "broken": broken, "policy": report.policy_error, "warnings": warnings}
        output.print_json(found | {"pushed": pushed})
    else:
        for name in report.jobs:
            output.say(f"ok      {name}")
        for file in report.broken:
            output.say(f"broken  {file}")
        output.say(f"broken  policy: {report.policy_error}" if report.policy_error else "ok      policy")
        for warning in report.warnings:
            output.say(f"warning {warning}")
        if pushed is not None:
            output.say(f"pushed  {pushed}")
    if report.ok:
        return ExitCode.SUCCEEDED
    wrong = len(report.broken) + (report.policy_error is not None)
    output.echo_err(f"taskpilot: {formatting.count(wrong, 'file')} cannot be used; see above for the cause; no tokens were spent")
    return ExitCode.CONFIGURATION


@command.command(name="next")
@click.argument("job", required=False, shell_complete=completion.jobs)
@click.option("-n", "count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many times to show.")
@utc_option
@json_option
def next_(job: str | None, *, count: int, as_json: bool) -> None:
    """Show when one job, or every job, runs next, in the job's time zone and in that of this machine.

    Warns of times that a change of daylight saving time skips or repeats within 400 days, and says what happens then. A warning does not
    change the exit code.

    \b
    Examples:
      taskpilot jobs next
      taskpilot jobs next triage -n 3
    """
    from taskpilot.cli import bootstrap
    from taskpilot.messages.shapes import iso
    from taskpilot.views.jobs import job_warnings, next_fires, warning_json

    with bootstrap.deployment() as deployment:
        fires, warnings = next_fires(deployment, job, count), job_warnings(deployment, job)
    if as_json:
        listed = [{"job": spec.name, "scheduled_for": iso(fire), "zone": spec.schedule.zone} for spec, fire in fires if spec.schedule]
        output.print_json({"fires": listed, "warnings": [warning_json(warning) for warning in warnings]})
        return
    cells = [
        (spec.name, formatting.local(fire, spec.schedule.zone), spec.schedule.zone, formatting.instant(fire))
        for spec, fire in fires
        if spec.schedule
    ]
    headings = ("job", "next run", "zone", formatting.zone_heading())
    output.print_table(headings, cells, empty="no run is scheduled: there is no schedule, or its last time has passed")
    for warning in warnings:
        output.echo_err(f"warning: {warning}")


@command.command()
@click.argument("job", shell_complete=completion.jobs)
@person_options
def pause(job: str, *, by: str | None, note: str) -> None:
    """Pause a job: start no new run of it. Active runs go on.

    Scheduled times in the pause are recorded as paused; `taskpilot run` of a paused job exits with 11.

    \b
    Examples:
      taskpilot jobs pause triage --note "the tracker moves"
    """
    from taskpilot.cli import bootstrap
    from taskpilot.cli.options import name_of
    from taskpilot.messages.actions import job_paused
    from taskpilot.services.jobs import pause_job

    with bootstrap.deployment() as deployment:
        pause_job(deployment, job, by=name_of(by), note=note)
    output.tell(job_paused(job))


@command.command()
@click.argument("job", shell_complete=completion.jobs)
@person_options
def resume(job: str, *, by: str | None, note: str) -> None:
    """Resume a paused job. Runs missed in the pause are not made up.

    \b
    Examples:
      taskpilot jobs resume triage
    """
    from taskpilot.cli import bootstrap
    from taskpilot.cli.options import name_of
    from taskpilot.messages.actions import job_resumed
    from taskpilot.services.jobs import resume_job

    with bootstrap.deployment() as deployment:
        resume_job(deployment, job, by=name_of(by), note=note)
    output.tell(job_resumed(job))
