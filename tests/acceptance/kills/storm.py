"""A job that does everything that a run can do, a server for it, and kills that hit it anywhere."""

import json
import os
import random
import sqlite3
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from signal import SIGKILL
from typing import Any, Final, Literal

from tests.acceptance.kills.books import effects
from tests.acceptance.kills.processes import alive, children, eventually, send
from tests.command import TaskPilot
from tests.servers.openai_answers import Answer, Body, text, tool_calls, triage_brain
from tests.servers.openai_server import OpenAIServer

Victim = Literal["job", "supervisor", "both"]

ORDERS: Final = 6
TASKS: Final = 2
EQUAL: Final = int(os.environ.get("TASKPILOT_KILLS_AT_ONCE", "4"))
"""Questions that are asked at once, each by a thread of its own."""
ASKS: Final = EQUAL + ORDERS + 1 + TASKS * 4
"""Of a run that nobody kills: the equal ones, one an order, one plan, and a review and three executor turns a task."""
CALLS: Final = ORDERS * 2 + TASKS * 3
"""Tool calls of such a run: charge and stamp for each order; create_task, charge and stamp for each task."""
CODES: Final = {"succeeded": 0, "waiting": 13}
"""The exit codes of the states in which a command may leave a run of this job."""
FIRST: Final = datetime(2026, 11, 1, tzinfo=UTC)

JOB: Final = '''
import json, os, random, time
from pathlib import Path
from taskpilot import Budget, Retry, RunContext, job, tool

EFFECTS = Path(__file__).parent.parent / "effects.jsonl"


def write(**line):
    with EFFECTS.open("ab", buffering=0) as file:
        file.write((json.dumps({"at": time.time_ns() // 1000, "pid": os.getpid(), **line}) + "\\n").encode())


def effect(tool, key):
    time.sleep(random.uniform(0, 0.006))
    write(tool=tool, key=key)
    time.sleep(random.uniform(0, 0.006))
    return f"{tool} {key}"


@tool
def charge(order: str) -> str:
    """Take the money for an order."""
    return effect("charge", order)


@tool(idempotent=True)
def stamp(order: str) -> str:
    """Mark an order as seen."""
    return effect("stamp", order)


def read_orders(run_id, number):
    write(tool="read_orders", key=run_id)
    return [f"{run_id[-6:]}-{index}" for index in range(number)]


@job(model="gpt-4o-mini", retry=Retry(attempts=30), deadline="10m", tools=[charge, stamp],
     budget=Budget(usd="50", tokens=100_000_000, llm_calls=5_000, tool_calls=5_000))
def storm(ctx: RunContext) -> str:
    def witness(where):
        write(witness=where, run=ctx.run_id, attempt=ctx.attempt, now=str(ctx.now()), uuid=str(ctx.uuid()))

    def handle(order):
        witness(order)
        ctx.ask("clerk", f"What is to be done with {order}?")
        ctx.call(charge, order=order)
        ctx.call("stamp", order=order)
        return order

    witness("start")
    orders = ctx.step("orders", read_orders, ctx.run_id, ORDERS)
    ctx.map(lambda _: ctx.ask("oracle", "The same question for all."), range(EQUAL), concurrency=EQUAL)
    ctx.map(handle, orders, concurrency=3)
    ctx.workflow(f"request {ctx.run_id[-6:]}")
    witness("end")
    return f"{len(orders)} orders"
'''.replace("ORDERS)", f"{ORDERS})").replace("EQUAL", str(EQUAL))


def brain(body: Body, rng: random.Random) -> Answer:
    """Answers after a few milliseconds; an executor files its task, then charges and stamps, then ends."""
    if not body:
        return Answer(400)
    answer = _executor(body) if body.get("tools") and not isinstance(body.get("tool_choice"), dict) else triage_brain(body, tasks=TASKS)
    return replace(answer, delay_seconds=rng.uniform(0.002, 0.03))


def _executor(body: Body) -> Answer:
    done = sum(message["role"] == "tool" for message in body["messages"])
    task = json.loads(body["messages"][1]["content"])["task"]
    name = task["title"].replace("Task ", "").replace(": request ", "-")
    if done == 0:
        return tool_calls(("create_task", {"title": task["title"], "priority": task["priority"]}))
    if done == 1:
        return tool_calls(("charge", {"order": name}), ("stamp", {"order": name}))
    return text("done")


@dataclass
class Storm:
    """Runs of the job in one root, each with a fire of its own, killed and carried on."""

    taskpilot: TaskPilot
    server: OpenAIServer
    rng: random.Random
    hits: Counter[str] = field(default_factory=Counter)
    """What the record said was in flight when a kill landed, and other figures for the report."""
    answered: dict[str, str] = field(default_factory=dict)
    """Step ids whose state a person set, with the state before."""
    landed: int = 0
    cut: set[str] = field(default_factory=set)
    """Ids of attempts that had no end when their supervisor and its job were dead: each must be recorded as lost."""
    fires: int = 0
    said: str = ""
    """What the last command wrote on stderr."""

    def __post_init__(self) -> None:
        self.effects_file = self.taskpilot.root / "effects.jsonl"
        self.taskpilot.job(JOB, name="storm")
        self.server.handler = lambda body: brain(body, self.rng)

    def one(self, victim: Victim, kills: int) -> str:
        """One run, hit by up to `kills` kills, then carried on to its end; gives its id."""
        fire = (FIRST + timedelta(minutes=self.fires)).isoformat()
        self.fires += 1
        line: tuple[str, ...] = ("run", "storm", "--scheduled-for", fire)
        for _ in range(kills):
            code = self._start_and_kill(line, victim)
            run = self._run_of(fire)
            if code is not None:
                assert run is not None, self.said
                assert code == CODES[run["status"]], (run, self.said)
            if run is not None and run["status"] not in ("queued", "running", "waiting"):
                break
            line = self._next_line(fire, run)
        self._finish(line, fire)
        run = self._run_of(fire)
        assert run is not None
        return str(run["id"])

    def _start_and_kill(self, line: tuple[str, ...], victim: Victim) -> int | None:
        """The exit code where the command came to its end by itself, None where it was killed."""
        with self.taskpilot.start(*line) as command:
            self._wait_for_the_moment(command)
            if command.poll() is not None:
                self.hits["ended before the kill"] += 1
                self.said = command.communicate()[1].decode()
                return command.returncode
            self._kill(command, victim)
            _, err = command.communicate(timeout=120)
            assert b"Traceback" not in err, err.decode()
            self.said = err.decode()
            return None if command.returncode == -SIGKILL else command.returncode

    def _wait_for_the_moment(self, command: "subprocess.Popen[bytes]") -> None:
        """A random moment: after a random number of things that can be seen from outside, and up to 0.3 s; or any time after the start."""
        if self.rng.random() < 0.15:
            until = time.monotonic() + self.rng.uniform(0, 4)
            eventually(lambda: command.poll() is not None or time.monotonic() > until, every=0.01)
            return
        wanted = self._seen() + self.rng.randint(0, ASKS + CALLS)
        eventually(lambda: command.poll() is not None or self._seen() >= wanted, every=0.002)
        time.sleep(self.rng.uniform(0, self.rng.choice([0.01, 0.04, 0.3])))

    def _seen(self) -> int:
        lines = self.effects_file.read_bytes().count(b'"tool"') if self.effects_file.exists() else 0
        return len(self.server.requests) + lines

    def _kill(self, command: "subprocess.Popen[bytes]", victim: Victim) -> None:
        jobs = children(command.pid)
        if victim == "job" and not jobs:
            # Between two attempts, or before the first one.
            eventually(lambda: command.poll() is not None or children(command.pid))
            jobs = children(command.pid)
        targets = {"job": jobs, "supervisor": [command.pid], "both": self.rng.sample([command.pid, *jobs], len(jobs) + 1)}[victim]
        before = self._in_flight()
        struck = sum(send(pid, SIGKILL) for pid in targets)
        if struck:
            self.landed += 1
            self.hits[before] += 1
        if victim != "job":
            assert eventually(lambda: not any(map(alive, jobs)), seconds=5), f"a job process of {jobs} outlived its supervisor"
            self.cut |= self._open_attempts()

    def _open_attempts(self) -> set[str]:
        if not self.taskpilot.state_dir.joinpath("taskpilot.db").exists():
            return set()
        try:
            return {str(row["id"]) for row in self.taskpilot.rows("SELECT id FROM attempts WHERE ended_at IS NULL")}
        except sqlite3.OperationalError:
            return set()

    def _in_flight(self) -> str:
        """What the record says is going on."""
        if not self.taskpilot.state_dir.joinpath("taskpilot.db").exists():
            return "no store yet"
        try:
            active = self.taskpilot.rows("SELECT id, status FROM runs WHERE status IN ('queued', 'running')")
            if not active:
                return "before the claim or after the end"
            kinds = self.taskpilot.rows("SELECT kind FROM steps WHERE run_id = ? AND status = 'begun'", active[-1]["id"])
        except sqlite3.OperationalError:
            return "store being made"
        return "in " + "+".join(sorted({row["kind"] for row in kinds})) if kinds else "between steps"

    def _next_line(self, fire: str, run: dict[str, Any] | None) -> tuple[str, ...]:
        """How a person, or cron, goes on."""
        if run is None:
            return ("run", "storm", "--scheduled-for", fire)
        if run["status"] == "waiting":
            return self._answer(run)
        return self.rng.choice([("run", "storm", "--scheduled-for", fire), ("runs", "resume", run["id"])])

    def _answer(self, run: dict[str, Any]) -> tuple[str, ...]:
        """Looks, as a person would, whether the charge happened, and says so."""
        open_steps = self.taskpilot.rows(
            "SELECT * FROM steps WHERE run_id = ? AND kind = 'call' AND status = 'unknown' AND NOT idempotent ORDER BY id", run["id"]
        )
        assert open_steps, f"run {run['id']} waits for nothing that can be answered"
        for step in open_steps:
            assert step["name"] == "charge"
        step = open_steps[0]
        order = json.loads(step["input"])["order"]
        happened = any(line.get("tool") == "charge" and line["key"] == order for line in effects(self.effects_file))
        self.answered[step["id"]] = "unknown"
        self.hits["answered --done" if happened else "answered --again"] += 1
        said = ("--done", json.dumps(f"charge {order}")) if happened else ("--again",)
        return ("runs", "resume", run["id"], "--step", step["id"], *said)

    def _finish(self, line: tuple[str, ...], fire: str) -> None:
        """Carries on until the run has ended; each command's exit code is what the contract says for the state it left."""
        for _ in range(40):
            run = self._run_of(fire)
            if run is not None and run["status"] not in ("queued", "running", "waiting"):
                assert run["status"] == "succeeded", run
                return
            said = self.taskpilot(*line)
            assert "Traceback" not in said.err, said.err
            run = self._run_of(fire)
            assert run is not None, said
            assert said.code == CODES[run["status"]], (said, run["status"], run["reason_code"], run["reason_facts"])
            if run["status"] == "waiting":
                line = self._answer(run)
        raise AssertionError(f"the run of {fire} came to no end")

    def _run_of(self, fire: str) -> dict[str, Any] | None:
        if not self.taskpilot.state_dir.joinpath("taskpilot.db").exists():
            return None
        micros = int(datetime.fromisoformat(fire).timestamp() * 1_000_000)
        if not self.taskpilot.rows("SELECT name FROM sqlite_master WHERE name = 'runs'"):
            # Killed while it made the store.
            return None
        found = self.taskpilot.rows("SELECT * FROM runs WHERE scheduled_for = ?", micros)
        assert len(found) <= 1
        return found[0] if found else None
