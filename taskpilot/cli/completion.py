"""Tab completion of job names and ids: read-only and fast; any error means no suggestions."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

Completer = Callable[[click.Context, click.Parameter, str], list[Any]]


def jobs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """The names of the jobs, without running a job file."""
    with suppress(Exception):
        from taskpilot.jobs.names import names_said_in

        return [name for name in names_said_in(_settings(context).jobs_dir) if name.startswith(incomplete)]
    return []


def channels(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """The names of the channels in the settings."""
    with suppress(Exception):
        return [name for name in _settings(context).notify_channels if name.startswith(incomplete)]
    return []


def ids(noun: str, *statuses: str) -> Completer:
    """Completes the newest ids of runs, tasks, decisions or incidents, with status and name in shells that show a help text.

    By the last 8 characters of an id, as lists show it; by the whole id where that is what is being typed.
    """

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
        with suppress(Exception):
            from click.shell_completion import CompletionItem

            from taskpilot.domain.ids import SHORT, short_id
            from taskpilot.domain.text import one_line
            from taskpilot.store.completion_queries import newest_ids

            found = newest_ids(_settings(context).state_dir, noun, begin=incomplete, statuses=statuses)
            shown = [(short_id(one) if len(incomplete) <= SHORT else one, status, name) for one, status, name in found]
            items = [
                CompletionItem(one, help=one_line(f"{status} {name}", limit=60))
                for one, status, name in shown
                if one.startswith(incomplete)
            ]
            last = [CompletionItem("last", help=f"the newest {noun}")] if found and not statuses and "last".startswith(incomplete) else []
            return [*items, *last]
        return []

    return complete


def _settings(context: click.Context) -> Any:
    """The settings for the options typed so far. Raises ConfigurationError where there is no root."""
    from pathlib import Path

    from taskpilot.config import load

    typed = context.find_root().params
    root, home, folder = (None if typed.get(name) is None else Path(typed[name]) for name in ("root", "home", "jobs"))
    return load(root=root, home=home, jobs=folder)
