"""Commands to copy: they work as pasted, also where the current folder does not belong to the root."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from taskpilot.cli.options import GlobalOptions
from taskpilot.config import Settings, find_root
from taskpilot.domain.errors import ConfigurationError
from taskpilot.messages.attention import commanded


def note_folders(settings: Settings, given: GlobalOptions) -> None:
    """Notes which folders a command needs from here."""
    given.folders = shlex.join(_folders(settings, given))


def pasting(settings: Settings, given: GlobalOptions) -> Callable[[Sequence[str]], str]:
    """Makes the line of `taskpilot` with some words, and with the folders that it needs from here."""
    folders = _folders(settings, given)
    return lambda words: commanded((*folders, *words))


def _folders(settings: Settings, given: GlobalOptions) -> list[str]:
    options = []
    try:
        inside = find_root(Path.cwd()) == settings.root
    except (ConfigurationError, OSError):
        inside = False
    if not inside:
        options += ["--root", str(settings.root)]
    # As typed, they are relative to the root, which the line names too.
    for option, value in (("--home", given.home), ("--jobs", given.jobs)):
        if value is not None:
            options += [option, value]
    return options
