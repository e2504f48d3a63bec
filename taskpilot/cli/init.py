"""`taskpilot init`: a first job, settings and .gitignore in an empty folder."""

import os
import shlex
from pathlib import Path

import click

from taskpilot.cli import output


@click.command(name="init")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Make a folder with a first job.

    Writes taskpilot.toml, .gitignore and jobs/hello.py; nothing that is there is overwritten.

    \b
    Example:
      taskpilot init night-shift
    """
    from taskpilot.operations.starting_point import FIRST_JOB, make_starting_point

    for path in make_starting_point(folder):
        output.say(f"wrote {os.path.normpath(path)}")
    go_there = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    output.say(f"next: {go_there}taskpilot run {FIRST_JOB} --model offline")
