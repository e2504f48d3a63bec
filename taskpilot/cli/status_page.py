"""Prints what happened since yesterday evening."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from taskpilot.cli import formatting, output
from taskpilot.cli.options import global_options
from taskpilot.domain.text import one_line
from taskpilot.messages.attention import attention_command, attention_sentence
from taskpilot.views.status import Status

_LEAST: Final = 3
"""So many are shown, however low the terminal is."""
_OUTAGES: Final = 2
"""So many times without a scheduler are shown, the last ones."""
_STATES: Final = {"absent": "not running (cron or people start the jobs)", "dead": "not running, although it was not stopped"}
_FIRES: Final = {
    "skipped_overlap": "skipped behind another run",
    "coalesced": "caught up by a later one",
    "paused": "skipped in a pause",
    "blocked_budget": "blocked by a budget",
    "blocked_config": "blocked by the configuration",
    "buffered": "waiting to start",
}


def show(found: Status, line: Callable[[Sequence[str]], str], *, everything: bool) -> None:
    """Prints it; on a terminal as much as there is room for, unless `everything` is wanted. `line` makes a command to copy."""
    terminal = output.on_terminal()
    width = formatting.width_of(sys.stdout) if terminal else None
    local = terminal and not global_options().utc
    time = partial(_time, now=found.until, local=local)
    zone = (found.until.astimezone().tzname() or "local time") if local else "UTC"
    lines = [part for text in _head(found, time, zone) for part in formatting.wrapped(text, width).split("\n")]
    if found.scheduler.value == "dead":
        lines.append(f"  {line(['serve'])}")
    for text in lines:
        output.say_line(text)
    shown = found.attention
    if terminal and not everything:
        # Two lines each; the prompt, the empty line and the one that counts the rest take one too.
        room = shutil.get_terminal_size().lines - len(lines) - 2
        shown = shown if 2 * len(shown) <= room else shown[: max(_LEAST, (room - 1) // 2)]
    if shown:
        output.say_line("")
    for one in shown:
        at = one.at or one.fire
        words = (one.kind.value, one.job or "", "" if at is None else time(at), one_line(attention_sentence(one), limit=output.LINE_LIMIT))
        output.say_marked(one.kind.value, _cut("  ".join(filter(None, words)), width))
        output.say_line(f"  {line(attention_command(one))}")
    if left := len(found.attention) - len(shown):
        output.say_line(f"and {left} more: {line(['status', '--all'])}")


def _head(found: Status, time: Callable[[datetime], str], zone: str) -> Iterator[str]:
    counts = {status.value.replace("_", " "): number for status, number in found.counts.items()}
    ran = ", ".join(f"{number:,} {name}" for name, number in counts.items())
    runs = f"{formatting.count(sum(counts.values()), 'run')}: {ran}" if counts else "no runs"
    yield f"since {time(found.since)} ({zone}): {runs}"
    if found.fires:
        yield "fires: " + ", ".join(f"{number:,} {_FIRES.get(outcome, outcome.value)}" for outcome, number in found.fires.items())
    unpriced = f", and {formatting.count(found.unpriced_calls, 'call')} without a price" if found.unpriced_calls else ""
    yield f"cost: {formatting.usd(found.cost_nano)}{unpriced}"
    # No job file is read here: without a server, nothing may be known of a schedule.
    none = "`taskpilot jobs next` reads it from the job files" if found.scheduler.value == "absent" else "nothing is scheduled"
    yield "next: " + (", ".join(f"{job} {time(at)}" for job, at in found.next_fires) or none)
    tick = "" if found.last_tick is None else f", last active {time(found.last_tick)}"
    state = _STATES.get(found.scheduler.value, found.scheduler.value)
    gaps = ", ".join(f"{time(event.start)} to {time(event.end)}" for event in found.outages[-_OUTAGES:])
    yield f"scheduler: {state}{tick}" + (f"; none was running from {gaps}" if gaps else "")


def _time(moment: datetime, *, now: datetime, local: bool) -> str:
    """Hours and minutes, with the day where it is not today."""
    here, today = (one.astimezone(None if local else UTC) for one in (moment, now))
    return here.strftime("%H:%M" if here.date() == today.date() else "%a %d %b %H:%M")


def _cut(text: str, width: int | None) -> str:
    """The text in one line of the terminal; a terminal may have no character for an ellipsis."""
    if width is None or len(text) <= width:
        return text
    return text[: width - 3].rstrip() + "..."
