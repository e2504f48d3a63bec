"""`taskpilot health`: the health of the deployment, for people and monitors."""

import click

from taskpilot.cli import formatting, output
from taskpilot.cli.options import global_options, json_option
from taskpilot.domain.exits import ExitCode


@click.command(name="health")
@json_option
def command(*, as_json: bool) -> int:
    """Show health from the database; needs no server.

    Exits with 1 if something failed: the store cannot be used, or the scheduler is gone. Warnings exit with 0.

    \b
    Examples:
      taskpilot health --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.views.checks import Status
    from taskpilot.views.health import health, health_json

    with bootstrap.deployment() as deployment:
        found = health(deployment)
    code = ExitCode.FAILED if found.status is Status.FAIL else ExitCode.SUCCEEDED
    global_options().exit_code = code
    if as_json:
        output.print_json(health_json(found))
        return code
    scheduler = found.scheduler
    counts = [] if scheduler.jobs is None else [formatting.count(scheduler.jobs, "job")]
    counts += [f"{number:,} {noun}" for noun in ("paused", "running", "queued") if (number := getattr(scheduler, noun)) is not None]
    lag = "" if scheduler.lag_seconds is None else f", {formatting.duration(scheduler.lag_seconds)} late"
    output.print_fields(
        {
            "health": found.status.value,
            "scheduler": f"{scheduler.state.value}: {', '.join(counts)}",
            "last tick": "" if scheduler.last_tick is None else formatting.instant(scheduler.last_tick) + lag,
            "next fire": "" if scheduler.next_fire is None else formatting.instant(scheduler.next_fire),
            **{name: f"{one.status.value}: {one.detail}" for name, one in found.checks.items()},
        }
    )
    for one in found.findings:
        output.say_line(f"{one.status.value}: {one.text}")
    return code
