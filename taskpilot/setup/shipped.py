"""The files that come with the program and are copied into a root: jobs to copy, and the stack's files."""

from pathlib import Path


def shipped(name: str) -> Path:
    """A file or folder: in the package, where a wheel has it; else at the top of the checkout that the program runs from."""
    here = Path(__file__).parent
    inside = here / "files"
    return (inside if inside.is_dir() else here.parents[1]) / name
