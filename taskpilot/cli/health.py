"""`taskpilot health`: show health from the database, for people and monitors."""

import click

from taskpilot.cli import formatting, output
from taskpilot.cli.options import global_options, json_option, utc_option
from taskpilot.domain.exits import ExitCode

_STATES = {"absent": "not running (cron or people start the jobs)", "dead": "not running, although it was not stopped"}


@click.command(name="health")
@utc_option
@json_option
def command(*, as_json: bool) -> int:
    """Show health from the database; needs no server.

    Exits with 0 for pass, and with 1 for a warning (a job fails, or waits for you) and for a failure: the database cannot be used, or a
    scheduler that should be running is not.

    \b
    Examples:
      taskpilot health --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.cli.pasting import pasting
    from taskpilot.views.checks import Status
    from taskpilot.views.health import health, health_json

    given = global_options()
    with bootstrap.deployment() as deployment:
        found, settings = health(deployment), deployment.settings
    code = ExitCode.SUCCEEDED if found.status is Status.PASS else ExitCode.FAILED
    given.exit_code = code
    if as_json:
        output.print_json(health_json(found, pasting(settings, given)))
        return code
    scheduler = found.scheduler
    counts = [] if scheduler.jobs is None else [formatting.count(scheduler.jobs, "job")]
    counts += [f"{number:,} {noun}" for noun in ("paused", "running", "queued") if (number := getattr(scheduler, noun)) is not None]
    lag = "" if scheduler.lag_seconds is None else f", {formatting.duration(scheduler.lag_seconds)} late"
    output.print_fields(
        {
            "health": found.status.value,
            "scheduler": f"{_STATES.get(scheduler.state.value, scheduler.state.value)}; {', '.join(counts)}",
            "last tick": "" if scheduler.last_tick is None else formatting.instant(scheduler.last_tick) + lag,
            "next run": "" if scheduler.next_fire is None else formatting.instant(scheduler.next_fire),
            **{name: f"{one.status.value}: {one.detail}" for name, one in found.checks.items()},
        }
    )
    for one in found.findings:
        output.tell(f"{one.status.value}: {one.text}")
    return code
