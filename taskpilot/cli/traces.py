"""`taskpilot traces`: where a run spent its time."""

from datetime import datetime, timedelta

import click

from taskpilot.cli import completion, output, words
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option
from taskpilot.domain.text import one_line

BAR = 24
"""Characters of the time line: with names and durations it fits 80 columns."""
NAME = 28


@click.group(name="traces", cls=Noun)
def command() -> None:
    """Where a run spent its time.

    \b
    Examples:
      taskpilot traces show 01a214c3-89db-74c5-a15f-6e1a7f732632
    """


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@json_option
def show(run_id: str, *, as_json: bool) -> None:
    """The attempts, agents and steps of a run along its time.

    \b
    Examples:
      taskpilot traces show 01a214c3-89db-74c5-a15f-6e1a7f732632
    """
    from taskpilot.cli import opened
    from taskpilot.operations.shapes import iso
    from taskpilot.operations.traces import trace_of

    with opened.house() as house:
        run, lines = trace_of(house, run_id)
        now = house.now()
    if as_json:
        spans = [
            {
                "depth": line.depth,
                "name": line.name,
                "status": line.status,
                "started_at": iso(line.started_at),
                "ended_at": iso(line.ended_at),
                "detail": line.detail,
            }
            for line in lines
        ]
        output.print_json({"run_id": run.id, "job": run.job, "trace_id": run.trace_id, "spans": spans})
        return
    output.say(f"run {run.id} of {run.job}\ntrace {run.trace_id}")
    if not lines:
        output.whisper("no attempt has begun yet")
        return
    # The hours between two attempts would leave one character for the work: each attempt has its own time line.
    begin, length = lines[0].started_at, timedelta(0)
    for position, line in enumerate(lines):
        if line.depth == 0:
            begin = line.started_at
            rest = lines[position + 1 :]
            own = [line, *rest[: next((index for index, other in enumerate(rest) if other.depth == 0), len(rest))]]
            length = max((other.ended_at or other.started_at for other in own), default=now) - begin
        indent = "  " * min(line.depth, 6)
        name = indent + one_line(line.name, limit=NAME - len(indent))
        took = words.duration((line.ended_at - line.started_at).total_seconds()) if line.ended_at else "?"
        note = " ".join(part for part in (line.status if line.status != "succeeded" else "", one_line(line.detail, limit=60)) if part)
        output.say_line(f"{name:<{NAME}} {_bar(line.started_at, line.ended_at, begin, length)} {took:>7} {note}".rstrip())


def _bar(started: datetime, ended: datetime | None, begin: datetime, length: timedelta) -> str:
    """Where in the time line this was; one mark at least, for what took no time."""
    if length <= timedelta(0):
        return "|" + "=" * BAR + "|"
    first = min(BAR - 1, max(0, int((started - begin) / length * BAR)))
    last = min(BAR, max(first + 1, round(((ended or started) - begin) / length * BAR)))
    return "|" + " " * first + "=" * (last - first) + " " * (BAR - last) + "|"
