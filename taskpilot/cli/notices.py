"""`taskpilot notices`: the messages that were sent, and what became of each."""

from datetime import datetime

import click

from taskpilot.cli import completion, formatting, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option, next_page, page_options, several
from taskpilot.domain.ids import short_id

RESULTS = ("pending", "delivered", "failed", "unknown")


@click.group(name="notices", cls=Noun, default="list")
def command() -> None:
    """Show the notices that were sent, and what became of them.

    \b
    Examples:
      taskpilot notices
      taskpilot notices --result failed,unknown
    """


@command.command(name="list")
@click.option("--channel", help="Only notices to this channel.", shell_complete=completion.channels)
@click.option("--job", help="Only notices about this job.", shell_complete=completion.jobs)
@click.option("--result", "results", multiple=True, metavar="A,B", callback=several(RESULTS), help=f"Only these: {', '.join(RESULTS)}.")
@page_options("notice")
@json_option
def list_(
    *,
    channel: str | None,
    job: str | None,
    results: tuple[str, ...],
    limit: int,
    before: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """List notices, newest first.

    \b
    Examples:
      taskpilot notices --channel ops
      taskpilot notices list --result failed,unknown --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.domain.notices import NoticeResult
    from taskpilot.store.listings import Page
    from taskpilot.views.incidents import list_notices, notice_json

    with bootstrap.deployment() as deployment:
        page = Page(limit, before, since, until)
        found = list_notices(deployment, page, channel=channel, job=job, results=tuple(map(NoticeResult, results)))
        now = deployment.now()
    if as_json:
        output.print_json([notice_json(one) for one in found])
        return
    cells = [
        (
            short_id(one.id),
            one.event.value,
            one.job,
            one.channel,
            formatting.listed(one.created_at, now),
            one.result.value,
            f"{one.attempts:,}" if one.attempts > 1 else "",
            one.error or "",
        )
        for one in found
    ]
    headings = ("id", "event", "job", "channel", "written", "result", "tries", "why")
    output.print_table(headings, cells, empty="no notices", spare=("tries", "written"))
    output.print_next_page(found, limit, next_page("notices", short_id(found[-1].id)) if found else "")
