"""`taskpilot why`: explain why a job did or did not run at a given time."""

import click

from taskpilot.cli import completion, formatting, output
from taskpilot.cli.options import json_option, utc_option


@click.command(name="why")
@click.argument("job", shell_complete=completion.jobs)
@click.option("--at", metavar="TIME", help="Time, like 07:00 or 2026-11-24T07:00.  [default: the latest scheduled time]")
@utc_option
@json_option
def command(job: str, *, at: str | None, as_json: bool) -> None:
    """Explain why a job did or did not run at a given time.

    A TIME without an offset is local time in the job's time zone; one without a date is the latest before now. If daylight saving time
    repeats it, the first one is meant; if it is skipped, the first moment after the gap. If the job was not scheduled at that TIME, the
    scheduled times around it are shown.

    \b
    Examples:
      taskpilot why triage
      taskpilot why triage --at 07:00
      taskpilot why triage --at 2026-11-24T07:00
    """
    from taskpilot.cli import bootstrap
    from taskpilot.messages.moments import explain
    from taskpilot.views.why import why, why_json

    with bootstrap.deployment() as deployment:
        moment = why(deployment, job, at=at)
    if as_json:
        output.print_json(why_json(moment))
        return
    answer = explain(moment, time=formatting.instant, zone=formatting.zone_heading())
    output.tell(answer.sentence)
    output.print_fields({**answer.facts, "next": answer.next})
