"""`taskpilot policy`: check the rules for tool calls against sample calls."""

import click

from taskpilot.cli import output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option
from taskpilot.domain.exits import ExitCode


@click.group(name="policy", cls=Noun, default="check")
def command() -> None:
    """Check the rules for tool calls against sample calls.

    \b
    Examples:
      taskpilot policy check
    """


@command.command()
@json_option
def check(*, as_json: bool) -> int:
    """Load the rule files and try them on sample calls.

    `expected` is the answer of the default rules. If your own files answer differently, the row is marked; that is not an error.

    \b
    Examples:
      taskpilot policy check
      taskpilot policy check --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.deployment import check_policy

    report = check_policy(bootstrap.settings())
    rows = [
        {
            "name": one.name,
            "expected": one.expected.value,
            "got": one.got.value,
            "differs": one.differs,
            "reasons": list(one.reasons),
            "error": one.error,
        }
        for one in report.fixtures
    ]
    if as_json:
        output.print_json({"ok": report.ok, "files": list(report.files), "default": report.default, "fixtures": rows})
    else:
        output.say(f"compiled: {', '.join(report.files)}")
        cells = [
            (one.name, one.expected.value, one.got.value, "differs" if one.differs else "", one.error or "; ".join(one.reasons))
            for one in report.fixtures
        ]
        output.print_table(("call", "expected", "got", "", "why"), cells, empty="there are no sample calls")
        output.say("ok" if report.ok else "not ok: see the rows that differ or show an error")
    return ExitCode.SUCCEEDED if report.ok else ExitCode.CONFIGURATION
