"""`taskpilot traces`: show where a run spent its time; send traces that the collector missed."""

import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import click

from taskpilot.cli import completion, formatting, output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option, utc_option
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.text import one_line

BAR: Final = 24
"""Characters of a bar: with names and durations a line fits 80 columns."""
NAME: Final = 28
_NOTE: Final = 60
"""Characters of a note where the output is no terminal."""
_NOTE_MIN: Final = 12
_WELL: Final = frozenset({"succeeded", "allow"})
REPLAY_SECONDS: Final = 300.0
"""The command may be repeated: what was delivered is recorded."""


@click.group(name="traces", cls=Noun)
def command() -> None:
    """Show where a run spent its time.

    \b
    Examples:
      taskpilot traces show 7f732632
      taskpilot traces replay
    """


@command.command()
@click.argument("run_id", metavar="RUN", shell_complete=completion.ids("run"))
@utc_option
@json_option
def show(run_id: str, *, as_json: bool) -> None:
    """Draw the attempts, model calls, steps and decisions of a run as a timeline.

    \b
    Examples:
      taskpilot traces show 7f732632
    """
    from taskpilot.cli import bootstrap
    from taskpilot.messages.shapes import iso
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
    output.say(f"run {run.id} of {run.job}, started {formatting.instant(run.started_at)}\ntrace {run.trace_id}")
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
    from taskpilot.http import shown
    from taskpilot.services.maintenance import replay_traces

    with bootstrap.deployment() as deployment:
        delivery = replay_traces(deployment, seconds=REPLAY_SECONDS)
        place = shown(deployment.settings.otel_traces_url)
    if as_json:
        output.print_json(asdict(delivery))
    else:
        if delivery.runs or not (delivery.pending or delivery.error):
            delivered = f"{formatting.count(delivery.spans, 'span')} of {formatting.count(delivery.runs, 'run')} delivered to {place}"
            output.tell(delivered if delivery.runs else "nothing to send")
        if delivery.rejected or delivery.refused:
            rejected, refused = formatting.count(delivery.rejected, "span"), formatting.count(delivery.refused, "run")
            lost = f"the collector rejected {rejected} and refused {refused}"
            output.echo_err(f"taskpilot: {lost}: {delivery.error}. They are not sent again; traces.jsonl in the state folder has them")
        if delivery.pending:
            why = delivery.error or "another process is sending them; try again in a minute"
            output.echo_err(f"taskpilot: the traces of {formatting.count(delivery.pending, 'run')} are not sent yet: {place}: {why}")
    return ExitCode.TEMPORARY if delivery.pending else ExitCode.SUCCEEDED


def _waterfall(lines: Sequence[Any], now: datetime, width: int | None) -> Iterator[str]:
    """A line for each span, at most `width` columns. Each attempt has its own scale: attempts may be hours apart."""
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
    """The bar of a span, at least one character wide."""
    if length <= timedelta(0):
        return "|" + "=" * BAR + "|"
    first = min(BAR - 1, max(0, int((started - begin) / length * BAR)))
    last = min(BAR, max(first + 1, round(((ended or started) - begin) / length * BAR)))
    return "|" + " " * first + "=" * (last - first) + " " * (BAR - last) + "|"
