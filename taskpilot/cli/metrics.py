"""`taskpilot metrics`: show metrics, push them, and remove those of deleted jobs."""

import click

from taskpilot.cli import completion, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option
from taskpilot.domain.exits import ExitCode


@click.group(name="metrics", cls=Noun, default="show")
def command() -> None:
    """Show metrics; push them to a Prometheus Pushgateway.

    \b
    Examples:
      taskpilot metrics
      taskpilot metrics push
    """


@command.command()
def show() -> None:
    """Print all metrics in the text format of Prometheus.

    \b
    Examples:
      taskpilot metrics show | grep runs_total
    """
    from taskpilot.cli import bootstrap
    from taskpilot.services.metrics import show_metrics

    with bootstrap.deployment() as deployment:
        output.say(show_metrics(deployment).rstrip("\n"))


@command.command()
@click.argument("job", required=False, shell_complete=completion.jobs)
@json_option
def push(job: str | None, *, as_json: bool) -> int:
    """Push the metrics of one job or all jobs to the Pushgateway.

    Jobs that never ran are pushed as zeros, so that Prometheus sees their first run as an increase.

    \b
    Examples:
      taskpilot metrics push
      taskpilot metrics push triage --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.services.metrics import push_metrics

    with bootstrap.deployment() as deployment:
        results = list(push_metrics(deployment, job=job))
    rows = [
        {
            "job": one.job,
            "outcome": "refused" if one.result is None else "ok" if one.result.delivered else "failed",
            "pending": one.result is not None and one.result.pending,
            "why": f"another store ({one.foreign_store}) pushes to this group: set another TASKPILOT_DEPLOYMENT for one of them"
            if one.result is None
            else one.result.error or "",
        }
        for one in results
    ]
    if as_json:
        output.print_json(rows)
    else:
        cells = [(str(row["job"]), str(row["outcome"]), "yes" if row["pending"] else "no", str(row["why"])) for row in rows]
        output.print_table(("job", "outcome", "pending", "why"), cells, empty="no jobs")
    refused = [one for one in results if one.result is None]
    if refused:
        output.echo_err(f"taskpilot: not pushed: {', '.join(one.job for one in refused)}: another store pushes to the same group")
        return ExitCode.CONFIGURATION
    return ExitCode.SUCCEEDED if all(one.result is not None and one.result.delivered for one in results) else ExitCode.TEMPORARY


@command.command()
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
@json_option
def prune(*, dry_run: bool, as_json: bool) -> int:
    """Remove the metrics of deleted jobs from the Pushgateway.

    Jobs with a broken file keep their metrics, and so do jobs of another database.

    \b
    Examples:
      taskpilot metrics prune --dry-run
      taskpilot metrics prune
    """
    from taskpilot.cli import bootstrap
    from taskpilot.services.metrics import Outcome, prune_groups

    with bootstrap.deployment() as deployment:
        pruned = prune_groups(deployment, dry_run=dry_run)
    if as_json:
        output.print_json([{"job": one.job, "outcome": one.outcome.value, "why": one.why} for one in pruned])
    else:
        cells = [(one.job, one.outcome.value, one.why) for one in pruned]
        output.print_table(("job", "outcome", "why"), cells, empty="nothing to remove: every group belongs to a job")
    return ExitCode.TEMPORARY if any(one.outcome is Outcome.FAILED for one in pruned) else ExitCode.SUCCEEDED
