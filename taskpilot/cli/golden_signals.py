"""`taskpilot golden-signals`: how well the jobs do, in five figures."""

import click

from taskpilot.cli import formatting, output
from taskpilot.cli.options import json_option


@click.command(name="golden-signals")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="Count the runs that ended in the last N days.")
@json_option
def command(*, days: int, as_json: bool) -> None:
    """Show five figures: success, duration, cost, policy and correctness.

    Each has a verdict: healthy, degraded, unhealthy, or "no data". Cancelled runs are not counted.

    \b
    Examples:
      taskpilot golden-signals --days 7
    """
    from taskpilot.cli import bootstrap
    from taskpilot.views.golden_signals import golden_json, golden_signals

    with bootstrap.deployment() as deployment:
        found = golden_json(golden_signals(deployment, days=days))
    if as_json:
        output.print_json(found)
        return
    cells = [
        (name.replace("_", " "), _value(one["value"], one["unit"]), one["verdict"], one["window"], one["detail"])
        for name, one in found.items()
    ]
    output.print_table(("signal", "value", "verdict", "window", "why"), cells, empty="", spare=("window",))


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return formatting.NONE
    return {"percent": f"{value:.1f} %", "seconds": formatting.duration(value), "usd": f"{value:.6f} USD"}[unit]
