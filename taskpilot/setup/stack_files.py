"""Makes what the containers of docker-compose.observability.yml need: passwords in .env, and the folders that they read."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskpilot.config import Settings
from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.files import write_new
from taskpilot.store.creation import prepare_state_dir
from taskpilot.telemetry.logs import FILE as LOG_FILE

COMPOSE_FILE: Final = "docker-compose.observability.yml"
ENV_FILE: Final = ".env"
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
    env_file: Path
    wrote_env: bool
    """False where there was one already; it stays as it is."""
    state_dir: Path
    other_home: str | None
    """The state dir that an older .env names instead of ours."""


def make_stack_files(
    settings: Settings, *, beside: Path | None = None, password: Callable[[int], str] = secrets.token_urlsafe
) -> StackFiles:
    """Makes the state dir with its folder of logs (0700), and .env (0600) with random passwords beside the compose file.

    The compose file is the one in the root, else the one of the checkout that this program runs from (`beside`). An existing .env is
    never changed. Raises ConfigurationError where there is no compose file, StoreError where the state dir is another user's, UsageError
    where something cannot be written.
    """
    folder = _folder(settings.root, Path(__file__).parents[2] if beside is None else beside)
    state_dir = settings.state_dir
    if _UNQUOTABLE & set(str(state_dir)):
        sentence = "the state dir's path contains a quote or a line end, which .env cannot hold"
        raise UsageError(sentence, hint="name another state dir by TASKPILOT_HOME")
    logs = state_dir / LOG_FILE.parent
    env = folder / ENV_FILE
    prepare_state_dir(state_dir)
    try:
        # Made by us: what Docker makes belongs to root, and TaskPilot could not write there.
        logs.mkdir(mode=0o700, exist_ok=True)
        wrote = write_new(env, _content(state_dir, password))
        other = None if wrote else _other_home(env, folder, state_dir)
    except OSError as error:
        raise UsageError(f"{error.filename or env} cannot be written: {error.strerror}") from error
    return StackFiles(folder / COMPOSE_FILE, env, wrote, state_dir, other)


def _folder(*candidates: Path) -> Path:
    for folder in candidates:
        if (folder / COMPOSE_FILE).is_file():
            return folder
    raise ConfigurationError(
        f"there is no {COMPOSE_FILE} in {candidates[0]}, and this program does not run from a checkout that has one",
        hint="copy that file and observability/ from TaskPilot's repository into the root, and try again",
    )


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
