"""A root with small jobs, for the benchmarks."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.figures import REPOSITORY, Spent, python, spent_by

JOBS = '''
from taskpilot import RunContext, job


@job()
def nothing(ctx: RunContext) -> str:
    """Does nothing."""
    return "done"


@job()
def question(ctx: RunContext) -> str:
    """Asks a model once."""
    return ctx.ask("helper", "say hello")


def following(number: int) -> int:
    return number + 1


@job()
def three_steps(ctx: RunContext) -> int:
    """Three steps, one after the other."""
    number = 0
    for _ in range(3):
        number = ctx.step("following", following, number)
    return number
'''


class Place:
    """A root of its own; nothing of the developer's own configuration reaches it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "jobs").mkdir()
        (root / "jobs" / "small.py").write_text(JOBS)
        (root / "taskpilot.toml").write_text("")
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(root), "PYTHONPATH": str(REPOSITORY), "TASKPILOT_HOUSEKEEPING": "off"}

    def taskpilot(self, *arguments: str, **environment: str) -> Spent:
        """What `taskpilot ARGUMENTS` takes."""
        return self.spent(python("-m", "taskpilot", *arguments), environment)

    def program(self, text: str, **environment: str) -> Spent:
        """What a Python program takes."""
        return self.spent(python("-c", text), environment)

    def spent(self, command: list[str], environment: Mapping[str, str] | None = None) -> Spent:
        """What a command takes in this root."""
        return spent_by(command, root=self.root, environment={**self.environment, **(environment or {})})


@contextmanager
def place() -> Iterator[Place]:
    """A root that is gone afterwards."""
    with TemporaryDirectory(prefix="taskpilot-bench-") as folder:
        yield Place(Path(folder))
