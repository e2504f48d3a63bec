"""Command lines of ours in texts: found, and read by click without being called."""

import re
import shlex
from itertools import dropwhile
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
            program, *arguments = [*dropwhile(_ASSIGNMENT.fullmatch, part), ""]
            if re.fullmatch(r"(\S*/)?taskpilot", program):
                commands.append(arguments[:-1])
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
    """Lets click read a command line down to the last command's options, and calls nothing. Raises click.UsageError.

    A file that it names need not exist here.
    """
    command: click.Command = program
    context = command.make_context("taskpilot", list(typed))
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command = found
        try:
            context = command.make_context(name, rest, parent=context)
        except click.BadParameter as error:
            if isinstance(error, click.MissingParameter) or not (error.param and isinstance(error.param.type, click.Path)):
                raise
            return
