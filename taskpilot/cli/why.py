"""`taskpilot why`: what became of a fire."""

import click

from taskpilot.cli import completion, output
from taskpilot.cli.options import json_option


@click.command(name="why")
@click.argument("job", shell_complete=completion.jobs)
@click.option("--at", metavar="TIME", help="The moment, in ISO 8601.  [default: the latest fire that was due]")
@json_option
def command(job: str, *, at: str | None, as_json: bool) -> None:
    """Show why a job did or did not run at a time.

    A TIME without an offset is in the job's time zone. If the clock repeats it, the first occurrence is meant; if the clock skips it,
    the first instant after it. For a time at which the job was not due, the fires before and after are shown.

    \b
    Examples:
      taskpilot why triage
      taskpilot why triage --at 2026-11-24T07:00
    """
    from taskpilot.cli import bootstrap
    from taskpilot.messages.moments import tell
    from taskpilot.views.why import why, why_json

    with bootstrap.deployment() as deployment:
        moment = why(deployment, job, at=at)
    if as_json:
        output.print_json(why_json(moment))
        return
    told = tell(moment)
    output.say_line(told.sentence)
    output.print_fields({**told.facts, "next": told.next})
