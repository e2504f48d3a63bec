"""`taskpilot traces`: show where a run spent its time; send traces that the collector missed."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import click

from taskpilot.cli import completion, formatting, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.text import one_line

BAR: Final = 24
"""Characters of the time line: with names and durations it fits 80 columns."""
NAME: Final = 28
_NOTE: Final = 60
"""Characters of a note where no terminal bounds it."""
_NOTE_MIN: Final = 12
_WELL: Final = frozenset({"succeeded", "allow"})
REPLAY_SECONDS: Final = 300.0
"""A person can type it again; what was delivered until then is noted as delivered."""


@click.group(name="traces", cls=Noun)
def command() -> None:
    """Show where a run spent its time.

    \b
    Examples:
      taskpilot traces show 01a214c3-89db-74c5-a15f-6e1a7f732632
      taskpilot traces replay
    """


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@json_option
def show(run_id: str, *, as_json: bool) -> None:
    """Draw the attempts, model calls, steps and decisions of a run as a timeline.

    \b
    Examples:
      taskpilot traces show 01a214c3-89db-74c5-a15f-6e1a7f732632
    """
    from taskpilot.cli import bootstrap
    from taskpilot.views.shapes import iso
    from taskpilot.views.traces import trace_of

    with bootstrap.deployment() as deployment:
        run, lines = trace_of(deployment, run_id)
        now = deployment.now()
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
        output.echo_err("no attempt has started yet")
        return
    for drawn in _waterfall(lines, now, formatting.width_of(sys.stdout)):
        output.say_line(drawn)


@command.command()
@json_option
def replay(*, as_json: bool) -> int:
    """Send the traces that the collector missed.

    They keep their original times. `taskpilot serve` does this automatically. Exits with 75 if some could not be sent.

    \b
    Examples:
      taskpilot traces replay
    """
    from dataclasses import asdict

    from taskpilot.cli import bootstrap
    from taskpilot.services.traces import replay as deliver

    with bootstrap.deployment() as deployment:
        delivery = deliver(deployment, seconds=REPLAY_SECONDS)
        place = deployment.settings.otel_traces_url.rpartition("@")[2]
    if as_json:
        output.print_json(asdict(delivery))
    else:
        if delivery.runs or not (delivery.pending or delivery.error):
            delivered = f"{formatting.count(delivery.spans, 'span')} of {formatting.count(delivery.runs, 'run')} delivered to {place}"
            output.tell(delivered if delivery.runs else "nothing is pending")
        if delivery.rejected or delivery.refused:
            rejected, refused = formatting.count(delivery.rejected, "span"), formatting.count(delivery.refused, "run")
            lost = f"the collector rejected {rejected} and refused {refused}"
            output.echo_err(f"taskpilot: {lost}: {delivery.error}. They are not sent again; traces.jsonl in the state dir has them")
        if delivery.pending:
            why = delivery.error or "another process sends them, or waits for an answer; a minute later they are due again"
            output.echo_err(f"taskpilot: the spans of {formatting.count(delivery.pending, 'run')} are still pending: {place}: {why}")
    return ExitCode.TEMPORARY if delivery.pending else ExitCode.SUCCEEDED


def _waterfall(lines: Sequence[Any], now: datetime, width: int | None) -> Iterator[str]:
    """A line each, at most `width` columns; the hours between two attempts would leave one mark for the work, so each has its own scale."""
    before: datetime | None = None
    begin, length = lines[0].started_at, timedelta(0)
    room = _NOTE if width is None else max(_NOTE_MIN, width - NAME - BAR - 12)
    for position, line in enumerate(lines):
        name = line.name
        if line.depth == 0:
            begin = line.started_at
            rest = lines[position + 1 :]
            own = [line, *rest[: next((index for index, other in enumerate(rest) if other.depth == 0), len(rest))]]
            length = max((other.ended_at or other.started_at for other in own), default=now) - begin
            if before is not None:
                name = f"{name}, {formatting.duration((begin - before).total_seconds())} later"
            before = line.ended_at
        indent = "  " * min(line.depth, 6)
        name = indent + one_line(name, limit=NAME - len(indent))
        took = formatting.duration((line.ended_at - line.started_at).total_seconds()) if line.ended_at else "?"
        note = one_line(" ".join([*([line.status] if line.status not in _WELL else []), line.detail]).strip(), limit=room)
        yield f"{name:<{NAME}} {_bar(line.started_at, line.ended_at, begin, length)} {took:>7} {note}".rstrip()


def _bar(started: datetime, ended: datetime | None, begin: datetime, length: timedelta) -> str:
    """Where in the time line this was; one mark at least, for what took no time."""
    if length <= timedelta(0):
        return "|" + "=" * BAR + "|"
    first = min(BAR - 1, max(0, int((started - begin) / length * BAR)))
    last = min(BAR, max(first + 1, round(((ended or started) - begin) / length * BAR)))
    return "|" + " " * first + "=" * (last - first) + " " * (BAR - last) + "|"
