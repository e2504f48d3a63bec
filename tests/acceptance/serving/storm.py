"""Several servers on one store, one of them killed every now and then, and what the record says of every second afterwards."""

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.command import TaskPilot

SECOND = 1_000_000

JOBS = """
import os

from taskpilot import RunContext, every, job


def note(ctx):
    with open(os.path.join(os.path.dirname(__file__), "..", "starts"), "ab", buffering=0) as file:
        file.write(f"{ctx.run_id} {ctx.scheduled_for.isoformat()} {ctx.attempt}\\n".encode())


@job(schedule=every("1s"), overlap="allow_all", catch_up="all", catch_up_limit=5, catch_up_stagger="1s")
def crowd(ctx: RunContext) -> None:
    note(ctx)


@job(schedule=every("1s"))
def single(ctx: RunContext) -> None:
    note(ctx)


@job(schedule=every("3s"), overlap="buffer_one", catch_up="skip")
def patient(ctx: RunContext) -> None:
    note(ctx)
"""


class Servers:
    """`count` servers, kept alive but for the moments after a kill."""

    def __init__(self, taskpilot: TaskPilot, count: int, rng: random.Random) -> None:
        self._taskpilot = taskpilot
        self._rng = rng
        self._living: list[subprocess.Popen[bytes]] = []
        self._log = taskpilot.root / "servers.log"
        self.kills = 0
        for _ in range(count):
            self._start()

    def storm(self, seconds: float, *, cron: bool) -> None:
        """Kills and restarts for so long; with `cron`, a command claims a fire beside them now and then."""
        until = time.monotonic() + seconds
        commands: list[subprocess.Popen[bytes]] = []
        while time.monotonic() < until:
            time.sleep(self._rng.uniform(0.2, 4.0))
            victim = self._rng.choice(self._living)
            victim.kill()
            victim.wait()
            self._living.remove(victim)
            self.kills += 1
            if cron:
                commands.append(self._spawn("run", self._rng.choice(["crowd", "single", "patient"]), "--scheduled-for", "auto", "--quiet"))
            time.sleep(self._rng.uniform(0.0, 2.0))
            self._start()
        for command in commands:
            command.wait(60)

    def wait_until_all_keep_time(self) -> None:
        """A server that was started a moment ago does not hear yet what it is asked."""
        pids = {server.pid for server in self._living}
        until = time.monotonic() + 60
        while True:
            # The first server may not have made the tables yet.
            with suppress(sqlite3.OperationalError):
                rows = self._taskpilot.rows("SELECT json_extract(owner, '$.pid') AS pid FROM schedulers WHERE state = 'running'")
                if pids <= {row["pid"] for row in rows}:
                    return
            assert time.monotonic() < until, self.said()
            time.sleep(0.1)

    def stop(self) -> list[int]:
        """Asks all to end; gives their exit codes."""
        for server in self._living:
            server.send_signal(signal.SIGTERM)
        return [server.wait(90) for server in self._living]

    def end(self) -> None:
        """Leaves none behind, whatever happened."""
        for server in self._living:
            with suppress(ProcessLookupError):
                server.kill()
            server.wait()

    def said(self) -> str:
        """What they printed."""
        return self._log.read_text()

    def _start(self) -> None:
        self._living.append(self._spawn("serve", "--port", "0"))

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                self._taskpilot.line(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._taskpilot.root,
                env={**self._taskpilot.environment, "PATH": os.environ["PATH"]},
            )


def starts(root: Path) -> Counter[str]:
    """How often a job's function was entered for each run."""
    return Counter(line.split()[0] for line in (root / "starts").read_text().splitlines())


def check_every_second(taskpilot: TaskPilot, job: str, period: int) -> Counter[str]:
    """Every due fire of a job has exactly one place: a row, or a gap. Gives how many had which outcome."""
    [schedule] = taskpilot.rows("SELECT since, cursor FROM schedules WHERE job = ?", job)
    first = schedule["since"] // (period * SECOND) * period * SECOND + period * SECOND
    due = set(range(first, schedule["cursor"] + 1, period * SECOND))
    rows = taskpilot.rows("SELECT scheduled_for, outcome, run_id FROM fires WHERE job = ?", job)
    found = Counter({row["scheduled_for"]: 1 for row in rows})
    outcomes: Counter[str] = Counter(row["outcome"] for row in rows)
    for gap in taskpilot.rows("SELECT * FROM fire_gaps WHERE job = ?", job):
        inside = [moment for moment in due if gap["from_at"] <= moment <= gap["to_at"] and not any_row(rows, moment)]
        assert len(inside) == gap["number"], gap
        found.update(inside)
        outcomes[gap["outcome"]] += gap["number"]
    assert due - set(found) == set(), "fires without an outcome"
    assert [moment for moment, number in found.items() if number > 1] == [], "fires with two outcomes"
    assert outcomes["buffered"] == 0
    counted = {label: value for label, value in taskpilot.totals("taskpilot_fires_total", job=job).items() if value}
    assert counted == {f'{{"outcome":"{outcome}"}}': number for outcome, number in outcomes.items() if number}
    return outcomes


def any_row(rows: list[dict[str, object]], moment: int) -> bool:
    """Whether a fire has a row of its own."""
    return any(row["scheduled_for"] == moment for row in rows)
