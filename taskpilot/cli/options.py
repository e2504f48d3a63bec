"""Options that several commands share. Reads no settings."""

import os
from collections.abc import Callable
from datetime import datetime
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

    __slots__ = ("exit_code", "folders", "home", "jobs", "log_level", "quiet", "root", "subject", "utc")

    def __init__(self, *, root: str | None = None, home: str | None = None, jobs: str | None = None, log_level: str | None = None) -> None:
        self.root = root
        self.home = home
        self.jobs = jobs
        self.log_level = log_level
        self.subject: str | None = None
        """What an error is about, printed before it: the job or the run."""
        self.quiet = False
        """Whether errors are printed on one line."""
        self.folders = ""
        """The options that a command to copy needs here, such as `--root DIR`; empty where the current folder belongs to the root."""
        self.utc = False
        """Whether times are shown in UTC, and not in the zone of this machine."""
        self.exit_code = 0
        """The exit code of the work, set before the output is printed, so that a closed pipe does not change it."""


def global_options() -> GlobalOptions:
    """The options of the running command."""
    return click.get_current_context().ensure_object(GlobalOptions)


def json_option(command: Command) -> Command:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


class Past(click.ParamType[datetime]):
    """A time that a person typed."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The instant."""
        from taskpilot.domain.times import parse_past, utc_now

        if not isinstance(value, str):
            return value
        try:
            return parse_past(value, utc_now())
        except ValueError as error:
            self.fail(str(error), param, ctx)


def several(choices: tuple[str, ...]) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], tuple[str, ...]]:
    """The callback of an option that takes several of these words, with commas between them or given several times."""

    def check(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
        named = tuple(dict.fromkeys(one for text in given for one in text.split(",")))
        for one in named:
            if one not in choices:
                raise click.BadParameter(f"{one!r} is not one of {', '.join(choices)}", context, option)
        return named

    return check


def status_option(choices: tuple[str, ...], text: str) -> Callable[[Command], Command]:
    """Adds `--status`, which takes several states; its parameter is `statuses`."""

    def complete(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [before + comma + one for one in choices if one.startswith(last)]

    return click.option("--status", "statuses", multiple=True, metavar="A,B", callback=several(choices), shell_complete=complete, help=text)


def page_options(noun: str) -> Callable[[Command], Command]:
    """Adds `--since`, `--until`, `--limit` and `--before`, for a page of a list, and `--utc`."""

    def decorate(command: Command) -> Command:
        command = utc_option(command)
        until = click.option("--until", type=Past(), metavar="TIME", help=f"Only {noun}s older than this.")
        since = click.option("--since", type=Past(), metavar="TIME", help=f"Only {noun}s from 18:00, 12h (ago), yesterday, 2026-11-24 on.")
        command = since(until(command))
        before = click.option("--before", metavar="ID", help=f"Only {noun}s older than this one, for the next page.")
        limit = click.option("-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number of lines.")
        return limit(before(command))

    return decorate


def utc_option(command: Command) -> Command:
    """Adds `--utc`: times in UTC on a terminal too."""
    return click.option("--utc", is_flag=True, expose_value=False, callback=_set_utc, help="Show times in UTC.")(command)


def _set_utc(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    context.ensure_object(GlobalOptions).utc = wanted


def next_page(noun: str, last_id: str) -> str:
    """The command that prints the next page, with the filters that were typed."""
    import shlex

    context = click.get_current_context()
    parts = ["taskpilot", noun, "list", "--before", last_id]
    for option in context.command.params:
        name = option.name or ""
        if (
            name in {"before", "as_json"}
            or not option.expose_value
            or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE
        ):
            continue
        value = context.params[name]
        for one in value if isinstance(value, tuple) else (value,):
            parts += [option.opts[-1], one.isoformat() if isinstance(one, datetime) else str(one)]
    return shlex.join([*parts, "--utc"] if global_options().utc else parts)


def person_options(command: Command) -> Command:
    """Adds `--by` and `--note`: who acts, and why."""
    by = click.option("--by", metavar="NAME", help="Your name for the record.  [default: your user name]")
    note = click.option("--note", default="", metavar="TEXT", help="Reason for the record.")
    return by(note(command))
