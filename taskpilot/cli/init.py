"""`taskpilot init`: a first job, settings and .gitignore in a folder, and what to type next."""

import os
import shlex
import sys
from pathlib import Path

import click

from taskpilot.cli import output


@click.command(name="init")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
def command(folder: Path) -> None:
    """Make a folder with a first job.

    Writes taskpilot.toml, .gitignore and jobs/hello.py, and prints what to
    type next. What is there already stays as it is.

    \b
    Examples:
      taskpilot init night-shift
      taskpilot init
    """
    from taskpilot.operations.starting_point import FIRST_JOB, make_starting_point

    made = make_starting_point(folder)
    for name in made.wrote:
        output.say_line(f"wrote {os.path.normpath(folder / name)}")
    for name in made.kept:
        output.say_line(f"kept  {os.path.normpath(folder / name)}, as it was")
    commands = [*_to_path(), *([] if folder == Path() else [f"cd {shlex.quote(str(folder))}"])]
    if made.not_ignored:
        lines = "".join(f"\\n{line}" for line in made.not_ignored)
        commands.append(f"printf '{lines}\\n' >> .gitignore")
    if made.has_first_job:
        commands += [f"taskpilot run {FIRST_JOB} --model offline", f"taskpilot run {FIRST_JOB} --model offline -p wish='Water the plants'"]
    else:
        commands.append("taskpilot jobs")
    output.say("\nType next, in this order:\n")
    for line in [*commands, "taskpilot runs"]:
        output.say_line(f"  {line}")


def _to_path() -> list[str]:
    """The command that lets a shell find us, where it does not: `.venv/bin/taskpilot` was typed, or `python -m taskpilot`."""
    import shutil

    beside = Path(sys.executable).parent
    if shutil.which("taskpilot") or not (beside / "taskpilot").is_file():
        return []
    return [f'export PATH={shlex.quote(str(beside))}:"$PATH"']
