"""A root with small jobs, for the benchmarks, and a long history."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
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


def store_history(root: Path, number: int, *, jobs: int, until: timedelta = timedelta(0)) -> None:
    """A history of runs that were due, in 30 days up to `until` ago; each job was failed, timed out and cancelled now and then."""
    from taskpilot.domain.times import to_micros
    from taskpilot.store.database import Store

    store = Store.open(root / ".taskpilot")
    store.close()
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
    ended, apart = to_micros(datetime.now(UTC) - until), timedelta(days=30) // timedelta(microseconds=1) // number
    # Ids that grow with time, as those of the deployment do.
    run, job, at = (
        "printf('01900000-0000-7000-8000-%012x', i)",
        f"'job_' || (i % {jobs})",
        f"{ended - 1_000_000} - ({number} - i) * {apart}",
    )
    status = f"CASE (i / {jobs} + i) % 100 WHEN 0 THEN 'failed' WHEN 1 THEN 'timed_out' WHEN 2 THEN 'cancelled' ELSE 'succeeded' END"
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        # Each row goes into eleven indexes: with a small cache their pages are written over and over.
        connection.execute("PRAGMA cache_size=-400000")
        connection.execute("BEGIN")
        connection.execute(
            f"{numbers} INSERT INTO runs (id, job, status, trigger, scheduled_for, parameters, trace_id, root_span_id, created_at, "
            "started_at, ended_at, attempts, attempts_allowed, active_micros, deadline_micros, cost_nano) "
            f"SELECT {run}, {job}, {status}, 'schedule', {at}, '{{}}', printf('%032x', i), printf('%016x', i), {at}, "
            f"{at}, {at} + 1000000, 1, 1, 1000000, 3600000000, 2020000 FROM n",
            (number,),
        )
        connection.execute(
            f"{numbers} INSERT INTO fires (job, scheduled_for, outcome, run_id, recorded_at) "
            f"SELECT {job}, {at}, 'started', {run}, {at} FROM n",
            (number,),
        )
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
