"""`taskpilot why`: what became of a fire."""

import click

from taskpilot.cli import completion, output
from taskpilot.cli.options import json_option


@click.command(name="why")
@click.argument("job", shell_complete=completion.jobs)
@click.option("--at", metavar="TIME", help="The moment, in ISO 8601.  [default: the latest fire that was due]")
@json_option
def command(job: str, *, at: str | None, as_json: bool) -> None:
    """Why a fire did or did not happen.

    A TIME without an offset is the wall clock of the job's zone: one that comes twice is its first occurrence, one that the clock skips
    the first instant after it. A moment that was no fire is answered by the fires around it.

    \b
    Examples:
      taskpilot why triage
      taskpilot why triage --at 2026-11-24T07:00
    """
    from taskpilot.cli import bootstrap
    from taskpilot.views.why import why, why_json

    with bootstrap.deployment() as deployment:
        answer = why(deployment, job, at=at)
    if as_json:
        output.print_json(why_json(answer))
        return
    output.say_line(answer.sentence)
    output.print_fields({**answer.facts, "next": answer.next})
