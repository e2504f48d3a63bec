"""`taskpilot notify`: try the channels, and the whole way to a person."""

import time

import click

from taskpilot.cli import completion, formatting, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import global_options, json_option
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.ids import short_id

_ASK_SECONDS = 1.0
_SEND_SECONDS = 15.0


@click.group(name="notify", cls=Noun)
def command() -> None:
    """Try the channels of notices; make a fire drill.

    \b
    Examples:
      taskpilot notify test
      taskpilot notify drill
    """


@command.command()
@click.argument("channel", required=False, shell_complete=completion.channels)
@json_option
def test(channel: str | None, *, as_json: bool) -> int:
    """Send a test message to one channel, or to all.

    Exit code: 0 all of them took it, 75 one did not.

    \b
    Examples:
      taskpilot notify test
      taskpilot notify test ops
    """
    from taskpilot.cli import bootstrap
    from taskpilot.notices.actions import send_test

    with bootstrap.deployment() as deployment:
        tried = send_test(deployment, channel)
    code = ExitCode.SUCCEEDED if all(one.delivered for one in tried) else ExitCode.TEMPORARY
    global_options().exit_code = code
    if as_json:
        output.print_json([{"channel": one.channel, "delivered": one.delivered, "answer": one.answer} for one in tried])
    else:
        rows = [(one.channel, "delivered" if one.delivered else "failed", one.answer) for one in tried]
        output.print_table(("channel", "result", "why"), rows, empty="no channels")
    return code


@command.command()
@click.argument("channel", required=False, shell_complete=completion.channels)
@click.option("--wait", default="10m", show_default=True, metavar="TIME", help="How long to wait for the acknowledgement; 0: not at all.")
@json_option
def drill(channel: str | None, *, wait: str, as_json: bool) -> int:
    """Make a labelled incident and wait until a person acknowledges it.

    It goes to the channels of `[notify] default`, also in the quiet hours, and says that it is a drill and how to acknowledge it.
    Exit code: 0 it was acknowledged, 1 it was not.

    \b
    Examples:
      taskpilot notify drill
      taskpilot notify drill ops --wait 1h
    """
    from taskpilot.cli import bootstrap
    from taskpilot.domain.times import parse_duration
    from taskpilot.notices.actions import begin_drill, send_now
    from taskpilot.views.incidents import incident_json, list_notices, show_incident

    try:
        seconds = 0.0 if wait == "0" else parse_duration(wait).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--wait") from None
    with bootstrap.deployment() as deployment:
        incident = begin_drill(deployment, channel)
        send_now(deployment, seconds=_SEND_SECONDS)
        until = time.monotonic() + seconds
        if not as_json:
            rows = [(one.channel, one.result.value, one.error or "") for one in list_notices(deployment, incident_id=incident.id)]
            output.print_table(("channel", "result", "why"), rows, empty="no notice was written")
            output.say_command(f"to acknowledge it: taskpilot incidents ack {short_id(incident.id)}")
            output.flush()
        while (found := show_incident(deployment, incident.id)).acknowledged_at is None and (left := until - time.monotonic()) > 0:
            time.sleep(min(_ASK_SECONDS, left))
    code = ExitCode.FAILED if found.acknowledged_at is None else ExitCode.SUCCEEDED
    global_options().exit_code = code
    if as_json:
        output.print_json(incident_json(found))
    elif found.acknowledged_at is None:
        output.tell(f"nobody acknowledged it within {formatting.duration(seconds)}" if seconds else "nobody has acknowledged it yet")
    else:
        after = formatting.duration((found.acknowledged_at - found.opened_at).total_seconds())
        output.tell(f"acknowledged by {found.acknowledged_by} after {after}")
    return code
