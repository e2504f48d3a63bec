"""Command lines of ours in texts: found, and read by click without being called."""

import re
import shlex
from typing import Final

import click

from taskpilot.cli.program import program

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]+=.*")


def typed_in(text: str) -> list[list[str]]:
    """What each line types after `taskpilot`, with the words before it that are another program's, comments and pipes left out."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        try:
            words = _words(line)
        except ValueError:
            # Not of a shell: a part of a file, or a sentence with an apostrophe.
            continue
        for part in words:
            while part and _ASSIGNMENT.fullmatch(part[0]):
                part = part[1:]
            if part and re.fullmatch(r"(\S*/)?taskpilot", part[0]) and not part[0].startswith("--"):
                commands.append(part[1:])
    return commands


def _words(line: str) -> list[list[str]]:
    """The words of each command of a line."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
    reader.whitespace_split = True
    parts: list[list[str]] = [[]]
    skip = False
    for word in reader:
        if skip:
            skip = False
        elif set(word) <= set("|&;()"):
            parts.append([])
        elif set(word) <= set("<>&"):
            # The file of a redirection is no argument.
            skip = True
        else:
            parts[-1].append(word)
    return parts


def parse(typed: list[str]) -> None:
    """Lets click read a command line down to the last command's options, and calls nothing. Raises click.UsageError."""
    command: click.Command = program
    context = command.make_context("taskpilot", list(typed))
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command = found
        context = command.make_context(name, rest, parent=context)
