"""What `approve` and `reject` of tasks and of tool calls share: several ids, and `--all` with a question."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from taskpilot.cli import formatting, output
from taskpilot.domain.errors import NotFound, TaskPilotError, UsageError
from taskpilot.domain.ids import short_id
from taskpilot.domain.text import one_line
from taskpilot.messages.actions import Answered, answered

Command = TypeVar("Command", bound=Callable[..., Any])

MOST: Final = 1_000
"""Questions that one `--all` answers."""
_SHOWN: Final = 20


def all_option(noun: str) -> Callable[[Command], Command]:
    """Adds `--all`."""
    return click.option("--all", "everything", is_flag=True, help=f"Every {noun} that waits for you; asks first, on a terminal only.")


def chosen(ids: Sequence[str], *, everything: bool, waiting: Callable[[], list[tuple[str, str]]], verb: str, noun: str) -> Sequence[str]:
    """The ids to answer: those that were typed, or with `--all` those that wait, after a yes. Raises UsageError or Abort.

    `waiting` gives each id and what it is about, which is untrusted text.
    """
    if everything == bool(ids):
        raise UsageError(f"give the ids of the {noun}s, or --all", hint=f"taskpilot {noun}s")
    if not everything:
        return tuple(dict.fromkeys(ids))
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("--all asks a question, so it needs a terminal", hint=f"taskpilot {noun}s list")
    found = waiting()
    if not found:
        raise NotFound(f"no {noun} waits for you")
    for one, about in found[:_SHOWN]:
        output.say_line(f"{short_id(one)}  {one_line(about)}")
    if len(found) > _SHOWN:
        output.say(f"and {len(found) - _SHOWN} more")
    click.confirm(f"{verb.capitalize()} {formatting.count(len(found), noun)}?", abort=True, err=True)
    return [one for one, _about in found]


def answer_each(ids: Sequence[str], answer: Callable[[str], Answered]) -> None:
    """Answers one after the other and prints what happens next. What is refused does not stop the others; it is raised at the end."""
    refused: list[TaskPilotError] = []
    after: list[str] = []
    for one in ids:
        try:
            sentence, _, then = answered(answer(one)).rpartition("\n")
        except TaskPilotError as error:
            refused.append(error)
            continue
        output.say(sentence)
        after = [*(line for line in after if line != then), then]
    for line in after:
        output.say_command(line)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise UsageError(problems=refused)
