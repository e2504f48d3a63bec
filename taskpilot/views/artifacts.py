"""The files that a run wrote with `ctx.artifact`. A job can write into that folder, so no link in it is followed."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import NotFound, StoreError, UsageError
from taskpilot.domain.text import one_line
from taskpilot.store import runs
from taskpilot.store.ids import find_id
from taskpilot.views.runs import no_run

_MOST: Final = 10_000
"""Files of a run that are listed."""
_FEW: Final = 100
"""On a page."""
_PIECE: Final = 1 << 20
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def run_artifacts(deployment: Deployment, run_id: str) -> list[dict[str, Any]]:
    """Name, size, SHA-256 and path of each artifact, by name. Raises UsageError or NotFound."""
    path = _folder(deployment, run_id)
    listed = []
    for name in _names(path):
        with suppress(NotFound), opened(deployment, run_id, name) as file:
            size, digest = 0, hashlib.sha256()
            while piece := file.read(_PIECE):
                size += len(piece)
                digest.update(piece)
            listed.append({"name": name, "bytes": size, "sha256": digest.hexdigest(), "path": str(path / name)})
    return listed


def artifact_sizes(deployment: Deployment, run_id: str) -> list[tuple[str, int]]:
    """Name and size of each artifact, by name, at most a hundred. Raises UsageError or NotFound."""
    path = _folder(deployment, run_id)
    sizes = []
    for name in _names(path)[:_FEW]:
        with suppress(OSError):
            info = (path / name).lstat()
            if stat.S_ISREG(info.st_mode):
                sizes.append((name, info.st_size))
    return sizes


@contextmanager
def opened(deployment: Deployment, run_id: str, name: str) -> Iterator[BinaryIO]:
    """One artifact to read. Raises UsageError, or NotFound where the run has no regular file of that name."""
    path = _folder(deployment, run_id)
    missing = NotFound(
        f"run {path.parent.name} has no artifact {one_line(name, limit=128)}", hint=f"taskpilot runs artifacts {path.parent.name}"
    )
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise missing
    try:
        folder = os.open(path, _FOLDER)
    except OSError:
        raise missing from None
    try:
        descriptor = os.open(name, _OPEN, dir_fd=folder)
    except OSError:
        raise missing from None
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise missing
    with os.fdopen(descriptor, "rb") as file:
        yield file


def save_artifacts(deployment: Deployment, run_id: str, names: list[str], target: Path) -> list[Path]:
    """Copies artifacts into a folder, which is made where it is missing. Raises UsageError where a file is there already."""
    saved = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            with opened(deployment, run_id, name) as source, (target / name).open("xb") as copy:
                while piece := source.read(_PIECE):
                    copy.write(piece)
            saved.append(target / name)
    except FileExistsError as error:
        raise UsageError(f"{error.filename} exists already; nothing is overwritten", hint="name another folder with --save") from None
    except OSError as error:
        raise UsageError(f"{error.filename or target} cannot be written: {error.strerror}") from None
    return saved


def _folder(deployment: Deployment, run_id: str) -> Path:
    with deployment.store.read() as connection:
        run_id = find_id(connection, run_id)
        if runs.get_run(connection, run_id) is None:
            raise no_run(run_id)
    return deployment.run_dir(run_id) / "artifacts"


def _names(path: Path) -> list[str]:
    try:
        folder = os.open(path, _FOLDER)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    try:
        # A file whose name begins with a dot is one that is being written.
        with os.scandir(folder) as found:
            return sorted(one.name for one in found if not one.name.startswith("."))[:_MOST]
    finally:
        os.close(folder)
