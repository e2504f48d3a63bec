"""Builds the wheel with flit, and puts the files into it that lie beside the package: jobs to copy, and the stack's files.

flit takes only what is below `taskpilot/`, and `jobs/`, `observability/` and the compose file stay at the top, each in one copy. So a
wheel is built from a copy of the checkout in which they lie in `taskpilot/setup/files/`. An editable installation reads the checkout.
"""

import os
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

from flit_core.buildapi import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)
from flit_core.buildapi import build_wheel as _build_wheel

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_PROJECT = ("pyproject.toml", "README.md", "LICENSE", "taskpilot")
_BESIDE = ("jobs", "observability", "docker-compose.observability.yml", ".env.example")
# serve.yml is what a user of the checkout switched on.
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "serve.yml")


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """The name of the wheel that was written into the folder."""
    target = os.path.abspath(wheel_directory)  # noqa: PTH100  a text, as flit takes it
    with tempfile.TemporaryDirectory() as folder:
        _copy(_PROJECT, Path(folder))
        _copy(_BESIDE, Path(folder, "taskpilot", "setup", "files"))
        with chdir(folder):
            return str(_build_wheel(target, config_settings, metadata_directory))


def _copy(names: tuple[str, ...], target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        if Path(name).is_dir():
            shutil.copytree(name, target / name, ignore=_LEFT_OUT)
        else:
            shutil.copy(name, target / name)
