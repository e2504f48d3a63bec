"""`taskpilot decisions grants`: standing grants."""

import json

import click

from taskpilot.cli import formatting, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option
from taskpilot.domain.ids import short_id


@click.group(name="grants", cls=Noun, default="list")
def grants() -> None:
    """Show and revoke standing grants.

    \b
    Examples:
      taskpilot decisions grants
      taskpilot decisions grants revoke 5941ec9f
    """


@grants.command(name="list")
@json_option
def list_(*, as_json: bool) -> None:
    """List standing grants, newest first.

    \b
    Examples:
      taskpilot decisions grants list --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.messages.shapes import grant_json
    from taskpilot.views.tasks import list_grants

    with bootstrap.deployment() as deployment:
        found, now = list_grants(deployment), deployment.now()
    if as_json:
        output.print_json([grant_json(one, now) for one in found])
        return
    cells = [
        (
            short_id(one.id),
            one.job,
            one.tool,
            one.state(now).value,
            f"{one.uses} of {one.uses_max}",
            formatting.instant(one.until),
            one.granted_by,
            json.dumps(one.arguments if one.schema is None else one.schema, ensure_ascii=False),
        )
        for one in found
    ]
    header = ("id", "job", "tool", "state", "used", "until", "by", "arguments")
    output.print_table(header, cells, empty="no standing grants", spare=("by", "until"))


@grants.command()
@click.argument("grant_id", metavar="GRANT")
@click.option("--by", metavar="NAME", help="Your name for the record.  [default: your user name]")
def revoke(grant_id: str, *, by: str | None) -> None:
    """End a standing grant; what it approved stays approved.

    \b
    Examples:
      taskpilot decisions grants revoke 5941ec9f
    """
    from taskpilot.cli import bootstrap
    from taskpilot.cli.options import name_of
    from taskpilot.services.approvals import revoke_grant

    with bootstrap.deployment() as deployment:
        grant = revoke_grant(deployment, grant_id, by=name_of(by))
    output.say(f"grant {short_id(grant.id)} of {grant.tool} is revoked: it was used {grant.uses} of {grant.uses_max} times")
