"""Copies the input files of a run before the claim, so that every attempt reads the same content."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from taskpilot.domain.errors import UsageError
from taskpilot.domain.text import one_line

INPUT_MAX_BYTES: Final = 256 * 1024 * 1024
"""A device or an endless pipe given by mistake must not fill the disk."""


def copy_inputs(
    names: Sequence[str], values: Mapping[str, Any], *, typed: frozenset[str], root: Path, run_dir: Path, stdin: BinaryIO | None
) -> dict[str, Any]:
    """The parameters with each input file replaced by its copy in `<run_dir>/inputs/`.

    `-` is standard input. A typed path is searched in the current folder, then in the root; a default only in the root.
    Raises UsageError where there is no such file.
    """
    copied = dict(values)
    for name in names:
        target = _target(run_dir, name, str(values[name]))
        if values[name] == "-":
            if stdin is None:
                raise UsageError(f"parameter {name}: there is no standard input to read")
            _copy(stdin, target, f"parameter {name}")
        else:
            source = _find(str(values[name]), name, root=root, typed=name in typed)
            try:
                with source.open("rb") as file:
                    _copy(file, target, str(source))
            except OSError as error:
                if error.filename is None or Path(error.filename) != source:
                    raise
                raise UsageError(f"parameter {name}: {source} cannot be read: {error.strerror}") from None
        copied[name] = str(target)
    return copied


def _find(text: str, name: str, *, root: Path, typed: bool) -> Path:
    candidates = [Path.cwd() / text, root / text] if typed else [root / text]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    searched = " and ".join(dict.fromkeys(str(candidate) for candidate in candidates))
    hint = f"type `-p {name}=FILE`, or `-p {name}=-` for standard input"
    raise UsageError(f"parameter {name}: there is no file {one_line(searched)}", hint=hint)


def _target(run_dir: Path, name: str, text: str) -> Path:
    folder = run_dir / "inputs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    suffix = Path(text).suffix
    return folder / f"{name}{suffix if suffix.isascii() and suffix[1:].isalnum() else ''}"


def _copy(source: BinaryIO, target: Path, what: str) -> None:
    # Not `atomic_write`: the source is copied in pieces, and the run's folder is removed where that fails.
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        left = INPUT_MAX_BYTES
        while chunk := source.read(min(1 << 20, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise UsageError(f"{what} is larger than {INPUT_MAX_BYTES >> 20} MiB, more than an input may be")
            file.write(chunk)


def forget_run_dir(run_dir: Path) -> None:
    """Removes the folder of a run that was not started after all."""
    shutil.rmtree(run_dir, ignore_errors=True)
