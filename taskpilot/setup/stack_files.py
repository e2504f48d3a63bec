"""The stack in a root: the compose file, what its containers read, and passwords in .env."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskpilot.config import Settings
from taskpilot.domain.errors import UsageError
from taskpilot.files import write_new
from taskpilot.setup.shipped import shipped
from taskpilot.store.creation import prepare_state_dir
from taskpilot.telemetry.logs import FILE as LOG_FILE

COMPOSE_FILE: Final = "docker-compose.observability.yml"
ENV_FILE: Final = ".env"
_SHIPPED: Final = (COMPOSE_FILE, ".env.example", "observability")
_HOME: Final = "TASKPILOT_HOME"
_WEBHOOK: Final = "ALERT_WEBHOOK_URL"
_PASSWORDS: Final = ("GRAFANA_ADMIN_PASSWORD", "ELASTIC_PASSWORD", "KIBANA_SYSTEM_PASSWORD", "KIBANA_ENCRYPTION_KEY")
_PASSWORD_BYTES: Final = 24
"""As URL-safe base64 that is 32 characters, the least that Kibana accepts; no character of it is special to Compose."""
_UNQUOTABLE: Final = frozenset("'\n\r\0")


@dataclass(frozen=True, slots=True)
class StackFiles:
    """The files that were made."""

    compose_file: Path
    wrote: tuple[str, ...]
    """Of the stack's files: top-level names in the root."""
    kept: tuple[str, ...]
    """Those that were there, with other contents than ours; they stay as they are."""
    env_file: Path
    wrote_env: bool
    """False where there was one already; it stays as it is."""
    state_dir: Path
    other_home: str | None
    """The state dir that an older .env names instead of ours."""


def make_stack_files(settings: Settings, *, password: Callable[[int], str] = secrets.token_urlsafe) -> StackFiles:
    """Makes in the root: the stack's files, .env (0600) with random passwords, and the state dir with its folder of logs (0700).

    Existing files are never changed. Raises StoreError where the state dir is another user's, UsageError where something cannot be written.
    """
    folder = settings.root
    state_dir = settings.state_dir
    if _UNQUOTABLE & set(str(state_dir)):
        sentence = "the state dir's path contains a quote or a line end, which .env cannot hold"
        raise UsageError(sentence, hint="name another state dir by TASKPILOT_HOME")
    logs = state_dir / LOG_FILE.parent
    env = folder / ENV_FILE
    prepare_state_dir(state_dir)
    wrote: list[str] = []
    kept: list[str] = []
    try:
        for name in _SHIPPED:
            _copy(shipped(name), folder / name, folder, wrote, kept)
        # Made by us: what Docker makes belongs to root, and TaskPilot could not write there.
        logs.mkdir(mode=0o700, exist_ok=True)
        wrote_env = write_new(env, _content(state_dir, password))
        other = None if wrote_env else _other_home(env, folder, state_dir)
    except OSError as error:
        raise UsageError(f"{error.filename or env} cannot be written: {error.strerror}") from error
    return StackFiles(folder / COMPOSE_FILE, tuple(dict.fromkeys(wrote)), tuple(kept), env, wrote_env, state_dir, other)


def _copy(source: Path, target: Path, root: Path, wrote: list[str], kept: list[str]) -> None:
    """Copies a file, or a folder with all in it, readable for the users of the containers whatever the umask. Raises OSError."""
    if source.is_dir():
        if not target.is_dir():
            target.mkdir()
            target.chmod(0o755)
        for each in sorted(source.iterdir()):
            _copy(each, target / each.name, root, wrote, kept)
        return
    content = source.read_bytes()
    name = target.relative_to(root)
    if write_new(target, content.decode("utf-8")):
        target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
        wrote.append(name.parts[0])
    elif not target.is_file() or target.read_bytes() != content:
        kept.append(str(name))


def _content(state_dir: Path, password: Callable[[int], str]) -> str:
    lines = [
        "# Written by `taskpilot init --stack`; .env.example explains each line. Keep this file secret.",
        f"{_HOME}='{state_dir}'",
        f"{_WEBHOOK}=",
        *(f"{name}={password(_PASSWORD_BYTES)}" for name in _PASSWORDS),
    ]
    return "\n".join(lines) + "\n"


def _other_home(env: Path, folder: Path, state_dir: Path) -> str | None:
    """The state dir that Compose would mount, where it is not ours."""
    named = ".taskpilot"
    for line in env.read_text(encoding="utf-8", errors="replace").splitlines():
        key, separator, value = line.partition("=")
        if separator and key.strip() == _HOME and value.strip().strip("'\""):
            named = value.strip().strip("'\"")
    return None if (folder / named).resolve() == state_dir else named
