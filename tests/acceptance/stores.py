"""What the tests of stores and disks share: jobs that fill and move, and a look at what a command said and left."""

import hashlib
from pathlib import Path
from typing import Final

from tests.command import Said

JOBS: Final = """
import glob
import os

from taskpilot import RunContext, job

STATE = os.path.join(os.getcwd(), ".taskpilot")


def fill():
    with open(os.path.join(STATE, "filler"), "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@job
def good(ctx: RunContext) -> str:
    ctx.workflow("Order paper for the printer")
    return "done"


@job
def fills_the_disk(ctx: RunContext, shrug: bool = False) -> str:
    ctx.step("before", lambda: 1)
    fill()
    try:
        ctx.step("after", lambda: "x" * 100_000)
    except Exception:
        if not shrug:
            raise
    return "done"


@job
def moves_the_store_away(ctx: RunContext) -> str:
    os.rename(os.path.join(STATE, "taskpilot.db"), os.path.join(STATE, "away.db"))
    return "done"
"""


def fill(folder: Path) -> Path:
    """Leaves no byte free on the disk of a folder; gives the file that is to be removed again."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def contents(folder: Path) -> dict[str, str]:
    """What the files hold that a command could have overwritten; without the index of SQLite's log and the cache of job files."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("-shm", ".lock", "job_files.json"))]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(said: Said, code: int, *words: str) -> None:
    """One sentence on stderr and at most one hint below it, which have the words, and nothing on stdout."""
    assert (said.code, said.out) == (code, ""), said
    sentence, *hint = said.err.splitlines()
    assert sentence.startswith("taskpilot: ")
    assert len(hint) <= 1
    assert all(line.startswith("  ") for line in hint), said
    for word in words:
        assert word in said.err
