"""A night that every dashboard has something to say of: real runs, each in a process of its own, a gateway, and a Prometheus."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.runs import FeedbackVerdict
from taskpilot.services.approvals import give_feedback
from taskpilot.services.jobs import pause_job
from tests.acceptance.serving.server import serving, wait
from tests.command import TaskPilot
from tests.integration.grafana.panels import Query, answer, rule_files
from tests.servers.openai_answers import Answer, Body, error, triage_brain
from tests.servers.openai_server import OpenAIServer
from tests.servers.prometheus import Prometheus, prometheus
from tests.servers.pushgateway import Pushgateway, pushgateway

JOBS: Final = '''
from taskpilot import Budget, RunContext, cron, job


@job(model="gpt-4o")
def handles(ctx: RunContext) -> str:
    """Asks the workflow."""
    ctx.workflow("Order new batteries for the door sensor.")
    return "done"


@job
def breaks(ctx: RunContext) -> str:
    """Raises."""
    raise RuntimeError("told to fail")


@job(model="gpt-4o", budget=Budget(usd=1, llm_calls=1))
def writes(ctx: RunContext) -> str:
    """Asks once more than it may."""
    return ctx.ask("writer", "one") + ctx.ask("writer", "two")


@job(model="local-model")
def local(ctx: RunContext) -> str:
    """Asks a model that has no price."""
    return ctx.ask("writer", "one")


@job
def forbidden(ctx: RunContext) -> str:
    """Makes a call that is denied."""
    return str(ctx.call("notify", channel="ops", message="delete everything"))


@job
def asks(ctx: RunContext) -> str:
    """Makes a call that waits for a person."""
    return str(ctx.call("create_task", title="the sensitive one", priority="high"))


@job(schedule=cron("0 0 29 2 *"))
def leap(ctx: RunContext) -> str:
    """Is due every four years."""
    return "leapt"
'''
RULES: Final = rule_files()
CODES: Final = {"handles": 0, "breaks": 1, "writes": 12, "local": 0, "forbidden": 14, "asks": 13, "leap": 0}
"""How the runs end."""


@dataclass(frozen=True)
class Story:
    """The night, told."""

    command: TaskPilot
    gateway: Pushgateway
    prometheus: Prometheus
    began: float
    """Before the first run, with zeros scraped."""
    ended: float
    """After everything was scraped."""

    @property
    def seconds(self) -> int:
        """A window that ends at `ended` and begins just before the first run."""
        return math.ceil(self.ended - self.began)

    def answer(self, query: Query, *, job: str = ".+", step: int = 5, seconds: int = 0, later: float = 0.0) -> list[dict[str, Any]]:
        """What Prometheus says to a query over the whole night, or so many seconds of it, for all jobs or one.

        The last point is the end of the night, or so much later: as long as it may look back, nothing changes after it.
        """
        length, end = seconds or self.seconds, self.ended + later
        values = {"deployment": ".+", "job": job, "__range": f"{length}s", "__interval": f"{step}s"}
        return answer(self.prometheus.url, query, values, start=end - step * math.ceil(length / step), end=end, step=step)


@contextmanager
def told(folder: Path) -> Iterator[Story]:
    """Runs it all and keeps the servers until the block ends."""
    with (
        pushgateway(folder) as gateway,
        prometheus(folder, [f"127.0.0.1:{gateway.port}"], rule_files=RULES) as scraper,
        OpenAIServer(_busy_at_first()) as model,
    ):
        command = _command(folder, gateway.url, model.url)
        assert command("jobs", "validate").code == 0
        scraper.until('sum(taskpilot_runs_total{status="succeeded"})', lambda value: value == 0)
        began = time.time()
        _live_through(command, gateway)
        # The last thing that happens; when it is scraped, all is.
        scraper.until('sum(taskpilot_feedback_total{verdict="correct"})', lambda value: value == 3)
        yield Story(command, gateway, scraper, began, time.time())


def _live_through(command: TaskPilot, gateway: Pushgateway) -> None:
    def run(job: str, *more: str) -> None:
        said = command("run", job, "--json", *more)
        assert said.code == CODES[job], (job, said)

    def ask_and_approve() -> None:
        run("asks")
        [decision] = command.rows("SELECT id FROM decisions WHERE status = 'pending'")
        assert command("decisions", "approve", decision["id"]).code == 0

    with serving(command), ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(run, job) for job in ("handles", "breaks", "writes", "local", "forbidden", "handles")]
        calls += [pool.submit(ask_and_approve), pool.submit(run, "leap", "--scheduled-for", "2024-02-29T00:00+00:00")]
        for call in calls:
            call.result()
        # The server goes on with what was approved, and tells of itself.
        wait(lambda: command.rows("SELECT id FROM runs WHERE job = 'asks' AND status = 'succeeded'"))
        wait(lambda: gateway.value("taskpilot_scheduler_last_tick_timestamp_seconds"))
    _judge(command)
    assert command("metrics", "push").code == 0


def _command(folder: Path, gateway: str, model: str) -> TaskPilot:
    root, home = folder / "root", folder / "home"
    (root / "jobs").mkdir(parents=True)
    home.mkdir()
    command = TaskPilot(root, home, TASKPILOT_PUSHGATEWAY_URL=gateway, OPENAI_BASE_URL=model, OPENAI_API_KEY="none")
    command.settings("")
    command.job(JOBS, name="night")
    return command


def _busy_at_first() -> Callable[[Body], Answer]:
    """Plays planner, reviewer and executor, after it refused one call."""
    refusals = iter([error(429, "busy", headers=[("Retry-After", "0")])])
    lock = threading.Lock()

    def answer(body: Body) -> Answer:
        with lock:
            return next(refusals, None) or triage_brain(body)

    return answer


def _judge(command: TaskPilot) -> None:
    """Pauses a job, and says of four runs whether their results were right: three were."""
    repository = Deployment(load(root=command.root, environ={}))
    try:
        pause_job(repository, "leap", by="test", note="")
        for run in command.rows("SELECT id, job FROM runs WHERE job IN ('handles', 'local', 'leap')"):
            verdict = FeedbackVerdict.WRONG if run["job"] == "leap" else FeedbackVerdict.CORRECT
            give_feedback(repository, run["id"], verdict, by="test", note="")
    finally:
        repository.close()
