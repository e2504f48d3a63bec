"""The files of the repository, as git would keep them."""

import ast
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def kept_files() -> list[Path]:
    """Every file that is, or would be, committed."""
    # A checkout that belongs to another user than the one who runs the tests is no danger for a listing.
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60).stdout
    return sorted(path for name in set(listed.split("\0")) - {""} if (path := REPOSITORY / name).is_file())


@pytest.fixture(scope="session")
def modules(kept_files: list[Path]) -> dict[str, ast.Module]:
    """The parsed source of each module of the package, by its path from the package on, such as `store/runs.py`."""
    package = REPOSITORY / "taskpilot"
    return {
        path.relative_to(package).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in kept_files
        if path.suffix == ".py" and path.is_relative_to(package)
    }
