"""What reading costs with a million stored runs: the golden signals, health, status, and the lists of runs and jobs."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from statistics import median
from typing import Final

from sqlalchemy import text

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.store import schedulers, schedules
from taskpilot.store.job_checks import JobCheck, replace_job_checks
from taskpilot.store.listings import Page
from taskpilot.views.golden_signals import golden_signals
from taskpilot.views.health import health
from taskpilot.views.jobs import list_jobs
from taskpilot.views.runs import list_runs
from taskpilot.views.status import status
from tests.bench.figures import Figure, in_turn, most_figure
from tests.bench.place import place, store_history

JOBS: Final = 1_000
STORED: Final = 1_000_000
_NEWEST: Final = "(SELECT {column} FROM runs WHERE job = job_state.job {condition} ORDER BY id DESC LIMIT 1)"


def bench(rounds: int) -> Iterator[Figure]:
    """What the server does for a request, without HTTP, and with a thousand jobs whose schedules it knows."""
    # A single round shows that it runs; it is no measurement.
    stored = STORED if rounds > 1 else STORED // 1_000
    with place() as here:
        lines = ["from taskpilot import cron, job"]
        lines += [f'@job(schedule=cron("{number % 60} * * * *"))\ndef job_{number}(ctx): ...' for number in range(JOBS)]
        (here.root / "jobs" / "small.py").write_text("\n".join(lines) + "\n")
        store_history(here.root, stored, jobs=JOBS)
        deployment = Deployment(load(root=here.root, environ={"OTEL_ENABLED": "false", "TASKPILOT_HOUSEKEEPING": "off"}))
        try:
            store_jobs(deployment)
            yield from _read(deployment, rounds, stored)
        finally:
            deployment.close()


def _read(deployment: Deployment, rounds: int, stored: int) -> Iterator[Figure]:
    works: dict[str, tuple[float, Callable[[], object]]] = {
        "golden signals": (100, lambda: golden_signals(deployment)),
        "health": (100, lambda: health(deployment)),
        "status": (100, lambda: status(deployment)),
        "a page of runs": (50, lambda: list_runs(deployment, Page(50))),
        "a page of failed runs": (50, lambda: list_runs(deployment, Page(50), statuses=["failed"])),
        "a page of jobs": (100, lambda: list_jobs(deployment, limit=200)),
    }
    for name, (bound, work) in works.items():
        spent = [one for (one,) in in_turn(rounds, lambda work=work: _spent(work))]
        cpu = median(cpu for _, cpu in spent) * 1000
        yield most_figure(name, [wall for wall, _ in spent], f"with {stored:,} runs; {cpu:.1f} ms CPU", at_most_ms=bound)


def _spent(work: Callable[[], object]) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - cpu


def store_jobs(deployment: Deployment) -> None:
    """A schedule, a state and a check for each job, and a server that is awake."""
    now = deployment.now()
    described = {name: spec.schedule.describe() for name, spec in deployment.catalog.jobs.items() if spec.schedule is not None}
    with deployment.store.write() as connection:
        schedules.begin_schedules(connection, described, now - timedelta(days=31))
        schedules.move_cursors(connection, described, now)
        replace_job_checks(connection, [JobCheck(job, now, deadline=timedelta(hours=1)) for job in described])
        schedulers.begin_scheduler(
            connection, "bench", owner=deployment.owner, version="bench", now=now, boot=deployment.boot() + timedelta(hours=1)
        )
        success = _NEWEST.format(column="ended_at", condition="AND status = 'succeeded'")
        state = _NEWEST.format(column="status", condition="")
        connection.execute(text("INSERT INTO job_state (job) SELECT job FROM schedules"))
        connection.execute(text(f"UPDATE job_state SET last_success = {success}, last_status = {state}"))
