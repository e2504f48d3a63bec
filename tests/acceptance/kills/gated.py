"""A job whose calls stop at gates that a test opens, so that a kill or a signal lands exactly where the test wants it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGCONT, SIGKILL
from typing import Any, Final

from tests.acceptance.kills.books import Row, effects
from tests.acceptance.kills.processes import children, eventually, send
from tests.command import TaskPilot

PRELUDE: Final = '''
import json, os, time
from pathlib import Path
from taskpilot import Retry, RunContext, job, tool

ROOT = Path(__file__).parent.parent


def write(what, **more):
    line = json.dumps({"at": time.time_ns() // 1000, "pid": os.getpid(), "what": what, **more}) + "\\n"
    with (ROOT / "effects.jsonl").open("ab", buffering=0) as file:
        file.write(line.encode())


def gate(name):
    """Stands here until the test opens the gate."""
    while not (ROOT / f"{name}.open").exists():
        time.sleep(0.005)


def wanted(name, default):
    """What a test wants the job to read; not journaled, so another attempt may read something else."""
    path = ROOT / name
    return path.read_text() if path.exists() else default


@tool
def charge(order: str) -> str:
    """Take money. Not to be repeated."""
    write("asked to charge", key=order)
    gate("before")
    write("charged", key=order)
    gate("after")
    return f"receipt {order}"


@tool(idempotent=True)
def stamp(order: str) -> str:
    """Mark an order. May be repeated."""
    write("stamped", key=order)
    gate("stamp")
    return f"stamp {order}"

'''
FIRE: Final = "2026-11-01T00:00+00:00"

ONE_CHARGE: Final = """
@job(retry=Retry(attempts=3), tools=[charge, stamp])
def gated(ctx: RunContext) -> str:
    write("attempt", key=ctx.attempt)
    said = ctx.call(charge, order="7")
    write("after the charge")
    return said
"""

ONE_STAMP: Final = """
@job(retry=Retry(attempts=3), deadline="30s", tools=[charge, stamp])
def gated(ctx: RunContext) -> str:
    return ctx.call(stamp, order="7")
"""

DIVERGING: Final = """
@job(retry=Retry(attempts=3), tools=[charge, stamp])
def gated(ctx: RunContext) -> str:
    said = ctx.call(charge, order=wanted("order", "7"))
    ctx.call(stamp, order="then")
    return said
"""

FOUR_EQUAL: Final = """
@job(model="gpt-4o-mini", retry=Retry(attempts=5))
def gated(ctx: RunContext) -> list[str]:
    return ctx.map(lambda _: ctx.ask("oracle", "The same question for all."), range(4), concurrency=4)
"""


class Gated:
    """A root with one job `gated`, whose text follows the prelude."""

    def __init__(self, taskpilot: TaskPilot, text: str) -> None:
        self.taskpilot = taskpilot
        taskpilot.job(PRELUDE + text, name="gated")

    def open(self, *gates: str) -> None:
        """Lets calls through these gates from now on."""
        for name in gates:
            (self.taskpilot.root / f"{name}.open").touch()

    def shut(self, *gates: str) -> None:
        """Closes gates again."""
        for name in gates:
            (self.taskpilot.root / f"{name}.open").unlink()

    def tell(self, name: str, text: str) -> None:
        """Changes what `wanted(name)` reads."""
        (self.taskpilot.root / name).write_text(text)

    def effects(self, what: str) -> list[Row]:
        """The lines of this kind."""
        return [line for line in effects(self.taskpilot.root / "effects.jsonl") if line["what"] == what]

    def wait_for(self, what: str, number: int = 1) -> None:
        """WaitBudget until there are so many lines of this kind."""
        assert eventually(lambda: len(self.effects(what)) >= number), f"no {what!r} came"

    @contextmanager
    def started(self, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """`taskpilot run gated`, alive inside the block, and nothing of it left behind."""
        with self.taskpilot.start(*(more or ("run", "gated"))) as command:
            try:
                yield command
            finally:
                for pid in (*children(command.pid), command.pid):
                    send(pid, SIGKILL)
                    send(pid, SIGCONT)
                command.communicate(timeout=60)

    def run(self) -> Row:
        """The newest run."""
        return self.taskpilot.run()

    def steps(self, kind: str = "call") -> list[Row]:
        """The newest run's steps of a kind, in the order of their beginnings."""
        return self.taskpilot.rows("SELECT * FROM steps WHERE run_id = ? AND kind = ? ORDER BY started_at, id", self.run()["id"], kind)

    def attempts(self) -> list[tuple[str, str]]:
        """How the newest run's attempts ended: status and reason."""
        rows = self.taskpilot.rows("SELECT status, reason_code FROM attempts WHERE run_id = ? ORDER BY number", self.run()["id"])
        return [(row["status"], row["reason_code"]) for row in rows]

    def standing(self) -> tuple[str, str]:
        """Status and reason of the newest run."""
        run = self.run()
        return run["status"], run["reason_code"]

    def resume(self, *more: str) -> Any:
        """`taskpilot runs resume` of the newest run."""
        return self.taskpilot("runs", "resume", self.run()["id"], *more)


def ended(command: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """The exit code and what stood on stderr; a traceback there is a defect."""
    _, err = command.communicate(timeout=120)
    text = err.decode()
    assert "Traceback" not in text, text
    assert "defect" not in text, text
    return command.returncode, text


def result_of(said: Any) -> Any:
    """The `result` of a command's JSON summary."""
    return json.loads(said.out)["result"]
