"""Reads the settings again while a server runs, and says which of them need a restart."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from taskpilot.config.load import OPTIONS, load
from taskpilot.config.model import Settings
from taskpilot.config.root import PROJECT_FILE, SETTINGS_FILE

_NEED_RESTART: Final = ("state_dir", "jobs_dir", "deployment", "port", "api_token", "read_token", "drain_timeout")
"""Fields that a server reads once, at its start."""
_FILES: Final = (SETTINGS_FILE, PROJECT_FILE, "prices.toml", ".env")

Signature = tuple[tuple[int, int, int] | None, ...]


def reread(settings: Settings, *, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings as they are now; what the command line gave stays. Raises ConfigurationError."""
    typed = {
        "home": settings.state_dir if settings.sources["state_dir"] == "--home" else None,
        "jobs": settings.jobs_dir if settings.sources["jobs_dir"] == "--jobs" else None,
    }
    level = settings.log_level if settings.sources["log_level"] == "--log-level" else None
    return load(root=settings.root, log_level=level, environ=environ, **typed)


def signature(settings: Settings) -> Signature:
    """Changes where a file changes that the settings are read from, or a policy file of theirs."""
    return tuple(_stat(path) for path in (*(settings.root / name for name in _FILES), *settings.policy_files))


def needing_restart(running: Settings, found: Settings) -> tuple[str, ...]:
    """The names of the changed settings that a running server does not follow."""
    return tuple(name for name in changed(running, found) if name in {_name(field) for field in _NEED_RESTART})


def following(running: Settings, found: Settings) -> Settings:
    """The settings that a running server follows: those that are found, but the ones that need a restart."""
    return replace(found, **{field: getattr(running, field) for field in _NEED_RESTART})


def changed(before: Settings, after: Settings) -> tuple[str, ...]:
    """The names of the settings that differ."""
    return tuple(_name(option.field) for option in OPTIONS if getattr(before, option.field) != getattr(after, option.field))


def _name(field: str) -> str:
    option = next(option for option in OPTIONS if option.field == field)
    return option.key or option.names[0]


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino
