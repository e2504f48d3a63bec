"""Options that several commands share. Reads no settings."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource


def name_of(given: str | None) -> str:
    """The name given by `--by`, else the user of this process; not from the environment, which can be forged."""
    if given:
        return given
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


Command = TypeVar("Command", bound=Callable[..., Any])


class GlobalOptions:
    """The options before the command's name, and how the command ends as far as known."""

    __slots__ = ("exit_code", "home", "jobs", "log_level", "quiet", "root", "subject")

    def __init__(self, *, root: str | None = None, home: str | None = None, jobs: str | None = None, log_level: str | None = None) -> None:
        self.root = root
        self.home = home
        self.jobs = jobs
        self.log_level = log_level
        self.subject: str | None = None
        """What an error is about, printed before it: the job or the run."""
        self.quiet = False
        """Whether errors are printed on one line."""
        self.exit_code = 0
        """The exit code of the work, set before the output is printed, so that a closed pipe does not change it."""


def global_options() -> GlobalOptions:
    """The options of the running command."""
    return click.get_current_context().ensure_object(GlobalOptions)


def json_option(command: Command) -> Command:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def page_options(noun: str) -> Callable[[Command], Command]:
    """Adds `--limit` and `--before`, for a page of a list."""

    def decorate(command: Command) -> Command:
        before = click.option("--before", metavar="ID", help=f"Only {noun}s older than this one, for the next page.")
        limit = click.option("-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number of lines.")
        return limit(before(command))

    return decorate


def next_page(noun: str, last_id: str) -> str:
    """The command that prints the next page, with the filters that were typed."""
    import shlex

    context = click.get_current_context()
    parts = ["taskpilot", noun, "list", "--before", last_id]
    for option in context.command.params:
        name = option.name or ""
        if name in {"before", "as_json"} or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        for one in value if isinstance(value, tuple) else (value,):
            parts += [option.opts[-1], str(one)]
    return shlex.join(parts)


def person_options(command: Command) -> Command:
    """Adds `--by` and `--note`: who acts, and why."""
    by = click.option("--by", metavar="NAME", help="Your name for the record.  [default: your user name]")
    note = click.option("--note", default="", metavar="TEXT", help="Reason for the record.")
    return by(note(command))
