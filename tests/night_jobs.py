"""Jobs that end in every way, and the real command in a process of its own over a folder of them."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import warm

HERE = Path(__file__).parents[1]

JOBS = '''
import os, sys, time

from taskpilot import Budget, RunContext, cron, job, tool


@job
def hello(ctx: RunContext, name: str = "you", times: int = 1) -> str:
    """Greets."""
    return f"hello {name}" * times


@job
def nasty(ctx: RunContext) -> str:
    """Says what no terminal should be told."""
    print("\\x1b[2Jprinted")
    ctx.log.info("\\x1b]0;owned\\x07 logged [/foo]")
    return "\\x1b[31m[link=https://evil.example]x[/link]\\u202e\\ttab"


@job
def handles(ctx: RunContext) -> str:
    """Asks the workflow."""
    ctx.workflow("Order new batteries for the door sensor.")
    return "done"


@job
def careful(ctx: RunContext) -> str:
    """Checks itself."""
    ctx.require(False, "nothing was sent")
    return "unreached"


@job
def breaks(ctx: RunContext) -> str:
    """Raises."""
    raise RuntimeError("first line\\nsecond \\x1b[31mline")


@job
def sleeps(ctx: RunContext) -> str:
    """Takes its time."""
    ctx.progress(1, 4)
    time.sleep(600)
    return "slept"


@job(schedule=cron("* * * * *"))
def minutely(ctx: RunContext) -> str:
    """Is due each minute."""
    return str(ctx.scheduled_for)


@tool(idempotent=False)
def order(item: str) -> str:
    """Orders something."""
    return "ordered " + item


@job(tools=[order])
def orders(ctx: RunContext) -> str:
    """Makes a call that waits for a person."""
    return str(ctx.call("create_task", title="the sensitive one", priority="high"))
'''


@dataclass(frozen=True)
class Done:
    """What the command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """The program, started in a folder."""

    def __init__(self, folder: Path) -> None:
        self.cold = False
        """Whether each command is a new interpreter."""
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(HERE)}

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "taskpilot", *arguments],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def __call__(self, *arguments: str) -> Done:
        if self.cold or warm.starts_cold(self.environment, self.folder):
            process = self.start(*arguments)
            out, err = process.communicate(timeout=90)
            return Done(process.returncode, out.decode(), err.decode())
        done = warm.run(arguments, stdin=b"", environment=self.environment, cwd=self.folder, seconds=90)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def make_root(folder: Path) -> Path:
    """A root with these jobs and no collector."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "taskpilot.toml").write_text('jobs = "jobs"\n[otel]\nenabled = false\n')
    (folder / "jobs" / "all.py").write_text(JOBS)
    return folder


def wait_for_running(taskpilot: Command, job: str) -> None:
    """Until the record says that the job's process is at work."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        runs = taskpilot("runs", "--job", job, "--status", "running", "--json")
        if runs.code == 0 and runs.json:
            return
    raise AssertionError(f"{job} did not start")
