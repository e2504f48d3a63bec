"""Finds the root, the folder of jobs and state, and checks that only its owner can change it."""

import os
import stat
import tomllib
from pathlib import Path
from shlex import quote
from typing import Any, Final

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line

SETTINGS_FILE: Final = "taskpilot.toml"
PROJECT_FILE: Final = "pyproject.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """The file's content. Raises ConfigurationError that names file, line and cause."""
    try:
        # Some editors write a byte order mark.
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {one_line(str(error))}", hint=f"correct {path}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def project_table(path: Path) -> dict[str, Any] | None:
    """`[tool.taskpilot]` of a pyproject.toml; None where it has none."""
    tool = read_toml(path).get("tool")
    if not isinstance(tool, dict) or "taskpilot" not in tool:
        return None
    table = tool["taskpilot"]
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: tool.taskpilot must be a table", hint=f"write [tool.taskpilot] in {path}")
    return table


def is_root(folder: Path) -> bool:
    """True where the folder has a taskpilot.toml, or a pyproject.toml with [tool.taskpilot]."""
    if (folder / SETTINGS_FILE).is_file():
        return True
    project = folder / PROJECT_FILE
    if not project.is_file():
        return False
    try:
        # A broken pyproject.toml of another project above us is not an error of ours.
        if b"taskpilot" not in project.read_bytes():
            return False
    except OSError:
        return False
    return project_table(project) is not None


def find_root(start: Path, explicit: Path | None = None) -> Path | None:
    """The root for work that starts in `start`: `explicit` if given, else the nearest folder above that is a root, else None.

    An explicit root needs no settings file, but must be a folder. Raises ConfigurationError.
    """
    if explicit is not None:
        folder = (start / explicit).resolve()
        if not folder.is_dir():
            raise ConfigurationError(f"--root {explicit} is not a folder", hint=f"taskpilot init {quote(str(explicit))}")
        return folder
    here = start.resolve()
    return next((folder for folder in (here, *here.parents) if is_root(folder)), None)


def check_trusted(path: Path) -> None:
    """Refuses a file or folder that another user could change, since that user could run code as us.

    Raises ConfigurationError, with the command that helps as its hint, if it belongs to neither us nor uid 0, or is world-writable.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be checked: {error.strerror}") from None
    if status.st_uid not in {0, os.geteuid()}:
        raise ConfigurationError(
            f"{path} belongs to uid {status.st_uid}, a user who could make TaskPilot run code as you",
            hint=f"chown {os.geteuid()} {quote(str(path))}",
        )
    if status.st_mode & stat.S_IWOTH:
        raise ConfigurationError(f"{path} can be changed by every user of this machine", hint=f"chmod o-w {quote(str(path))}")
