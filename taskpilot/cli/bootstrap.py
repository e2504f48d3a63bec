"""Loads the settings and the deployment for a command; never imported for `--help`."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from taskpilot.cli.options import global_options
from taskpilot.cli.output import echo_err
from taskpilot.cli.pasting import note_folders
from taskpilot.config import SETTINGS_FILE, Settings, find_root, load
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.specs import JobSpec
from taskpilot.files import write_new
from taskpilot.messages.settings import dotenv_refused
from taskpilot.services.publishing import publish_on_change


def settings() -> Settings:
    """The settings of the root. Without a root, offers on a terminal to make one here. Raises ConfigurationError."""
    given = global_options()
    if given.root is None and sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty():
        _offer_root(Path.cwd())
    found = load(root=_path(given.root), home=_path(given.home), jobs=_path(given.jobs), log_level=given.log_level)
    note_folders(found, given)
    if found.dotenv_refused:
        echo_err(f"warning: {dotenv_refused(found.dotenv_refused)}", wrap=not given.quiet)
    return found


def settings_of(folder: Path) -> Settings:
    """The settings of the root that a folder belongs to. Raises ConfigurationError."""
    given = global_options()
    return load(root=_path(given.root), home=_path(given.home), jobs=_path(given.jobs), log_level=given.log_level, cwd=folder.resolve())


@contextmanager
def deployment() -> Iterator[Deployment]:
    """The deployment of the root, closed at the end."""
    opened = publish_on_change(Deployment(settings(), built_in=_built_in))
    try:
        yield opened
    finally:
        opened.close()


def _built_in(found: Settings) -> Sequence[JobSpec]:
    # Imported here: it costs 150 ms, and a command that reads rows alone needs no job.
    from taskpilot.services.housekeeping import built_in_jobs

    return built_in_jobs(found)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _offer_root(here: Path) -> None:
    if find_root(here) is not None:
        return
    if not click.confirm(f"No {SETTINGS_FILE} here or above. Make {here} a TaskPilot folder?", err=True):
        hint = "go to your TaskPilot folder, name it with --root, or create one with `taskpilot init DIR`"
        raise ConfigurationError("no TaskPilot folder here or above", hint=hint)
    write_new(here / SETTINGS_FILE, '# Jobs and state are relative to this folder.\njobs = "jobs"\n', mode=0o644)
