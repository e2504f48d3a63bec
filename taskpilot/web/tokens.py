"""The server's own token, and the login link that `taskpilot open` reads: files in the state dir for nobody else."""

import json
import os
import re
import secrets
import stat
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Final

from taskpilot.domain.errors import StoreError
from taskpilot.files import atomic_write

TOKEN_FILE: Final = "api_token"  # noqa: S105  the name of its file
LINK_FILE: Final = "login_link"
OPENING_FILE: Final = "open.html"
_MADE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """256 random bits, safe in a URL and a header."""
    return secrets.token_urlsafe(32)


def own_token(state_dir: Path) -> str:
    """The token in the state dir, made where there is none that only we can read. Raises StoreError."""
    path = state_dir / TOKEN_FILE
    found = _read_private(path)
    if found is not None and _MADE.fullmatch(found):
        return found
    token = new_token()
    _write(path, token)
    return token


def publish_link(state_dir: Path, link: str) -> None:
    """Writes the login link of the server of this process. Raises StoreError."""
    _write(state_dir / LINK_FILE, json.dumps({"link": link, "pid": os.getpid()}))


def withdraw_link(state_dir: Path) -> None:
    """Removes the link, unless another server has written its own since."""
    if _published(state_dir)[1] == os.getpid():
        for name in (LINK_FILE, OPENING_FILE):
            with suppress(OSError):
                (state_dir / name).unlink()


def published_link(state_dir: Path) -> str | None:
    """The login link of the last server that started on a loopback address; it may have ended since. None: there is none."""
    return _published(state_dir)[0]


def opening_file(state_dir: Path, link: str) -> Path:
    """A page for a browser on this machine that leads to the link. Raises StoreError."""
    path = state_dir / OPENING_FILE
    _write(path, f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={escape(link)}"><title>TaskPilot</title>')
    return path


def _published(state_dir: Path) -> tuple[str | None, int | None]:
    text = _read_private(state_dir / LINK_FILE)
    try:
        found = json.loads(text or "null")
        return str(found["link"]), int(found["pid"])
    except (ValueError, TypeError, KeyError):
        return None, None


def _read_private(path: Path) -> str | None:
    """The text of a small file that is ours and that only we can read; None for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
            return None
        return file.read(4096).decode("utf-8", errors="replace").strip()


def _write(path: Path, text: str) -> None:
    try:
        atomic_write(path, f"{text}\n".encode())
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
