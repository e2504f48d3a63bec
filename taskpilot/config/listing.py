"""Lists each setting for people: its name, its value with secrets masked, and its source."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from taskpilot.config.load import OPTIONS
from taskpilot.config.model import Secret, Settings
from taskpilot.domain.channels import Channel
from taskpilot.domain.text import one_line
from taskpilot.domain.times import format_duration

MASK: Final = "***"
_MASKED_TABLES: Final = frozenset({"otel_headers"})
"""Tables whose values are often passwords."""
_LIMIT: Final = 300
_OWN_PREFIX: Final = "TASKPILOT_"
_OTHER_OWN: Final = frozenset({"TASKPILOT_DATABASE_URL", "TASKPILOT_CI"})
"""Known variables that are not settings: one is refused by name, one is for our own tests."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One setting."""

    name: str
    """The dotted key of the settings file, or the only variable that sets it."""
    variables: tuple[str, ...]
    """Environment variables that set it, the first that is set wins."""
    value: str
    """Printable, masked where it is or may hold a secret; empty where nothing is set."""
    source: str
    """As in `Settings.sources`."""


@dataclass(frozen=True, slots=True)
class ProcessEnvironment:
    """Facts about the process environment besides the settings; cron passes few variables."""

    path: str | None
    home: str | None
    unknown: tuple[str, ...]
    """Variables that begin with TASKPILOT_ but are not settings."""


def listed(settings: Settings) -> tuple[Listed, ...]:
    """Every setting, in the order of the documentation."""
    rows = [Listed("root", (), str(settings.root), settings.sources["root"])]
    for option in OPTIONS:
        value, name = getattr(settings, option.field), option.key or option.names[0]
        if option.field == "notify_ping_url" and value is not None:
            # Its path is its password.
            value = f"{urlsplit(value).scheme}://{urlsplit(value).netloc}/{MASK}"
        rows.append(Listed(name, option.names, _shown(value, option.field in _MASKED_TABLES), settings.sources[option.field]))
    rows.append(Listed("prices.toml", (), _shown(settings.prices_file), settings.sources["prices_file"]))
    return tuple(rows)


def process_environment(environ: Mapping[str, str] | None = None) -> ProcessEnvironment:
    """Of this process, or of the given variables."""
    variables = os.environ if environ is None else environ
    known = {name for option in OPTIONS for name in option.names} | _OTHER_OWN
    unknown = sorted(name for name in variables if name.startswith(_OWN_PREFIX) and name not in known)
    return ProcessEnvironment(variables.get("PATH"), variables.get("HOME"), tuple(unknown))


def _shown(value: Any, masked: bool = False) -> str:
    match value:
        case None:
            return ""
        case Secret():
            return MASK
        case bool():
            return "true" if value else "false"
        case Channel():
            # The path of a webhook's URL is its password; of another service's, the host may be its token.
            parts = urlsplit(value.url)
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{MASK}" if value.is_webhook else f"{value.scheme}://{MASK}"
        case time():
            return f"{value:%H:%M}"
        case timedelta():
            return format_duration(value)
        case float():
            return f"{value:g} s"
        case Path():
            return one_line(str(value), limit=_LIMIT)
        case tuple():
            return ", ".join(map(_shown, value))
        case Mapping():
            return ", ".join(f"{one_line(str(name))}={MASK if masked else _shown(content)}" for name, content in value.items())
        case _:
            return _without_password(one_line(str(value), limit=_LIMIT))


def _without_password(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    address = f"{scheme}://{MASK}@{host}" if at and user else f"{scheme}://{place}"
    path, question, query = path.partition("?")
    return f"{address}{slash}{path}{question}{MASK if query else ''}"
