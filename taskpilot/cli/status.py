"""`taskpilot status`: the morning after, on one screen."""

from datetime import datetime

import click

from taskpilot.cli import output
from taskpilot.cli.options import Past, global_options, json_option, utc_option
from taskpilot.domain.exits import ExitCode


@click.command(name="status")
@click.option("--since", type=Past(), metavar="TIME", help="From 18:00, 12h (ago), yesterday, 2026-11-24 on.  [default: yesterday 18:00]")
@click.option("--all", "everything", is_flag=True, help="Show all that needs attention, however long the list is.")
@utc_option
@json_option
def command(*, since: datetime | None, everything: bool, as_json: bool) -> int:
    """Show what ran, what did not, and what needs you.

    Each line that needs attention is followed by the one command to type next. Exits with 1 if something needs a person.

    \b
    Examples:
      taskpilot status
      taskpilot status --since 12h
    """
    from taskpilot.cli import bootstrap, status_page
    from taskpilot.cli.pasting import pasting
    from taskpilot.views.status import status, status_json

    given = global_options()
    with bootstrap.deployment() as deployment:
        found = status(deployment, since=since)
        settings = deployment.settings
    line = pasting(settings, given)
    code = ExitCode.SUCCEEDED if found.ok else ExitCode.FAILED
    given.exit_code = code
    if as_json:
        output.print_json(status_json(found, line))
    else:
        status_page.show(found, line, everything=everything)
    return code
