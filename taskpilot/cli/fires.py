"""`taskpilot fires`: what became of each scheduled time."""

from datetime import datetime

import click

from taskpilot.cli import completion, formatting, output
from taskpilot.cli.options import Past, json_option, several, utc_option
from taskpilot.domain.ids import short_id

OUTCOMES = ("started", "skipped_overlap", "missed", "coalesced", "paused", "blocked_budget", "blocked_config", "buffered")


@click.command(name="fires")
@click.argument("job", required=False, shell_complete=completion.jobs)
@click.option("--outcome", "outcomes", multiple=True, metavar="A,B", callback=several(OUTCOMES), help=f"Only these: {', '.join(OUTCOMES)}.")
@click.option("--since", type=Past(), metavar="TIME", help="Only those due from 18:00, 12h (ago), yesterday, 2026-11-24 on.")
@click.option("--until", type=Past(), metavar="TIME", help="Only those due before.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number of lines.")
@utc_option
@json_option
def command(
    job: str | None, *, outcomes: tuple[str, ...], since: datetime | None, until: datetime | None, limit: int, as_json: bool
) -> None:
    """Show what became of each scheduled time.

    Of one job, or of all; the newest first. Many times in a row with one outcome are one line with their number.
    `taskpilot why JOB --at TIME` explains one.

    \b
    Examples:
      taskpilot fires triage
      taskpilot fires --outcome missed,blocked_config --since yesterday
    """
    from taskpilot.cli import bootstrap
    from taskpilot.domain.runs import FireOutcome
    from taskpilot.messages.reasons import reason_line
    from taskpilot.views.fires import list_fires, outcome_json

    with bootstrap.deployment() as deployment:
        found = (
            [] if deployment.store_is_missing else list_fires(deployment, job, outcomes=outcomes, since=since, before=until, limit=limit)
        )
    if as_json:
        output.print_json([outcome_json(line) for line in found])
        return
    cells = [
        (
            line.job,
            formatting.instant(line.last),
            line.outcome.value,
            f"{line.count:,}" if line.count > 1 else "",
            "" if line.run_id is None else short_id(line.run_id),
            reason_line(line.reason, now=line.outcome is FireOutcome.BUFFERED),
        )
        for line in found
    ]
    output.print_table(("job", "due", "outcome", "number", "run", "why"), cells, empty="no scheduled time was due")
