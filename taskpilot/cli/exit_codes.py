"""`taskpilot exit-codes`: list the exit codes and their meanings."""

import click

from taskpilot.cli import output
from taskpilot.cli.options import json_option
from taskpilot.domain.exits import ExitCode


@click.command(name="exit-codes")
@json_option
def command(*, as_json: bool) -> None:
    """List the exit codes and their meanings.

    \b
    Examples:
      taskpilot exit-codes
      taskpilot run triage --quiet || taskpilot exit-codes
    """
    if as_json:
        output.print_json([{"code": int(code), "name": code.name.lower(), "meaning": code.meaning} for code in ExitCode])
        return
    output.print_table(("code", "meaning"), [(str(int(code)), code.meaning) for code in ExitCode], empty="")
