"""`taskpilot incidents`: what went wrong and was told, and acknowledging it."""

from datetime import datetime

import click

from taskpilot.cli import completion, formatting, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option, next_page, page_options, person_options, status_option
from taskpilot.domain.ids import short_id

STATES = ("pending", "open", "acknowledged", "closed")


@click.group(name="incidents", cls=Noun, default="list")
def command() -> None:
    """Show what went wrong and was told; stop its reminders.

    \b
    Examples:
      taskpilot incidents
      taskpilot incidents ack 5941ec9f
    """


@command.command(name="list")
@click.option("--job", help="Only incidents of this job.", shell_complete=completion.jobs)
@status_option(STATES, f"Only incidents in these states: {', '.join(STATES)}.")
@page_options("incident")
@json_option
def list_(
    *,
    job: str | None,
    statuses: tuple[str, ...],
    limit: int,
    before: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """List incidents, newest first.

    \b
    Examples:
      taskpilot incidents --status open,acknowledged
      taskpilot incidents list --job triage --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.domain.notices import IncidentState
    from taskpilot.messages.reasons import reason_line
    from taskpilot.store.listings import Page
    from taskpilot.views.incidents import incident_json, list_incidents

    with bootstrap.deployment() as deployment:
        page = Page(limit, before, since, until)
        found = list_incidents(deployment, page, job=job, states=tuple(map(IncidentState, statuses)))
        now = deployment.now()
    if as_json:
        output.print_json([incident_json(one) for one in found])
        return
    cells = [
        (
            short_id(one.id),
            one.job or "",
            one.cause.value,
            formatting.listed(one.opened_at, now),
            one.state.value,
            f"{one.events:,}" if one.events > 1 else "",
            one.acknowledged_by or "",
            reason_line(one.reason),
        )
        for one in found
    ]
    headings = ("id", "job", "cause", "opened", "state", "number", "seen by", "why")
    output.print_table(headings, cells, empty="no incidents", spare=("number", "opened", "seen by"))
    output.print_next_page(found, limit, next_page("incidents", short_id(found[-1].id)) if found else "")


@command.command()
@click.argument("incident_ids", nargs=-1, required=True, metavar="INCIDENT...", shell_complete=completion.ids("incident"))
@person_options
def ack(incident_ids: tuple[str, ...], *, by: str | None, note: str) -> None:
    """Acknowledge incidents: no more reminders are sent.

    Its end is still told. A drill is over with it.

    \b
    Examples:
      taskpilot incidents ack 5941ec9f
      taskpilot incidents ack last --note "the tracker is down"
    """
    from taskpilot.cli import bootstrap
    from taskpilot.cli.options import name_of
    from taskpilot.messages.notices import acknowledged
    from taskpilot.notices.actions import acknowledge

    with bootstrap.deployment() as deployment:
        for one in dict.fromkeys(incident_ids):
            output.say(acknowledged(acknowledge(deployment, one, by=name_of(by), note=note)))
