"""Reads `.env` in the root, by python-dotenv, and fills `${NAME}` in the settings file."""

import io
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote as percent_encoded

from taskpilot.config.root import check_trusted
from taskpilot.domain.errors import ConfigurationError

DOTENV_FILE: Final = ".env"
_BYTES_MAX: Final = 1 << 20
_REFUSED: Final = re.compile(r"PATH|LD_.*|PYTHON.*|TASKPILOT_HOME", re.DOTALL)
"""What decides which programs, libraries and store are used: a file in a folder of files may not change that."""
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class DotEnv:
    """The variables of the file."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    refused: tuple[str, ...] = ()
    """The names in it that it may not set."""


def read_dotenv(root: Path) -> DotEnv:
    """The variables of `.env`; none where there is no such file. Raises ConfigurationError for one that others can read."""
    path = root / DOTENV_FILE
    try:
        # Not blocking: somebody may have put a pipe there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return DotEnv()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path} is not a file", hint="write the variables into a file of that name")
        if status.st_mode & stat.S_IRWXO:
            raise ConfigurationError(f"{path} can be read by every user of this machine", hint=f"chmod 600 {quote(str(path))}")
        check_trusted(path)
        content = file.read(_BYTES_MAX + 1)
    if len(content) > _BYTES_MAX:
        raise ConfigurationError(f"{path} is larger than 1 MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from None
    found = _parsed(path, text)
    refused = tuple(sorted(name for name in found if _REFUSED.fullmatch(name)))
    return DotEnv(MappingProxyType({name: value for name, value in found.items() if name not in refused}), refused)


def _parsed(path: Path, text: str) -> dict[str, str]:
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    if "\0" in text:
        raise ConfigurationError(f"{path} holds a NUL character")
    # dotenv_values only logs such a line, and a key would be missing without a word.
    wrong = next((one.original.line for one in parse_stream(io.StringIO(text)) if one.error), None)
    if wrong is not None:
        raise ConfigurationError(f"{path}:{wrong}: this line is not NAME=value", hint=f"correct line {wrong} of {path}")
    return {name: value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value is not None}


def merged(dotenv: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of both; one that the environment sets to a text wins, an empty one does not."""
    return {**environ, **{name: value for name, value in dotenv.items() if not environ.get(name, "").strip()}}


def filled(value: Any, variables: Mapping[str, str], *, is_url: Callable[[str], bool], key: str, names: set[str]) -> Any:
    """A value of the settings file with `${NAME}` replaced in each of its texts; `$${` stands for `${`.

    In a URL the variable is percent-encoded, unless the whole text is the variable. Adds the names to `names`. Raises ValueError that
    names a variable that is not set.
    """
    if isinstance(value, str):
        return _filled(value, variables, in_url=is_url(key), names=names)
    if isinstance(value, Mapping):
        return {inner: filled(content, variables, is_url=is_url, key=f"{key}.{inner}", names=names) for inner, content in value.items()}
    if isinstance(value, list):
        return [filled(content, variables, is_url=is_url, key=key, names=names) for content in value]
    return value


def _filled(text: str, variables: Mapping[str, str], *, in_url: bool, names: set[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name = match[1]
        names.add(name)
        content = variables.get(name, "")
        if not content.strip():
            raise ValueError(f"${{{name}}} is not set: set {name} in the environment or in {DOTENV_FILE}")
        return percent_encoded(content, safe="") if in_url and match[0] != text else content

    parts = text.split("$${")
    return "${".join(_REFERENCE.sub(replace, part) for part in parts)
