"""Files that a run leaves: names are checked, links are never followed."""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def write_artifact(run_dir: Path, name: str, data: str | bytes | Any) -> Path:
    """Writes `artifacts/<name>` of a run, whole or not at all. Raises ValueError for a name that is no plain file name."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:64]!r} is no artifact name: letters, digits, dots, dashes and underscores, 128 at most, a letter or digit first"
        )
    folder = run_dir / "artifacts"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if isinstance(data, bytes):
        content = data
    else:
        content = (data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, indent=2)).encode("utf-8", "replace")
    directory = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        temporary = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(temporary, dir_fd=directory)
            raise
    finally:
        os.close(directory)
    return folder / name
