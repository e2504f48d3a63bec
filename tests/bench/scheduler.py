"""What the scheduler costs: a thousand jobs due in one second against bare APScheduler, ten thousand idle ones, and a long history."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.bench.figures import REPOSITORY, Figure, python, ratio_figure
from tests.bench.place import place, store_history

JOBS = 1_000
IDLE_JOBS = 10_000
_LOADED_SECONDS = 300.0
STORED = 1_000_000
EVERY_SECONDS = 12
"""Each of three processes has its own second of these: they measure in turn, on one machine at one time."""
IDLE_SECONDS = 30.0
_LINES = 1440
"""Lines of a crontab that are due in the first minutes of a year."""


def bench(rounds: int) -> Iterator[Figure]:
    """Lateness of a thousand claims, and the share of a core that idle jobs take; both once more with a million stored runs."""
    # A single round shows that it runs; it is no measurement.
    stored = STORED if rounds > 1 else STORED // 1_000
    yield from _due_at_once(rounds, stored)
    yield from _idle(*((IDLE_JOBS, IDLE_SECONDS) if rounds > 1 else (IDLE_JOBS // 100, 2.0)), stored)


def _due_at_once(rounds: int, stored: int) -> Iterator[Figure]:
    """From the nominal second to the return of the claim's commit, and to the call of the function of a bare APScheduler."""
    with ExitStack() as stack:
        new, old = stack.enter_context(_root(_due_jobs())), stack.enter_context(_root(_due_jobs()))
        store_history(old, stored, jobs=JOBS, until=timedelta(days=1))
        ours, bare, long = (
            stack.enter_context(_process(role, root, phase))
            for role, root, phase in (("ours", new, 0), ("bare", new, EVERY_SECONDS // 3), ("ours", old, 2 * EVERY_SECONDS // 3))
        )
        # The first round warms up.
        ours_late, bare_late, long_late = zip(*[[_round(one) for one in (ours, bare, long)] for _ in range(rounds + 1)][1:], strict=True)
    assert all(len(late) == JOBS for one in (ours_late, bare_late, long_late) for late in one)
    for name, part in (("p50", 50), ("p99", 99)):
        mine, peer, with_history = ([_percentile(late, part) for late in one] for one in (ours_late, bare_late, long_late))
        what = f"bare APScheduler ({median(peer) * 1000:.0f} ms)"
        bound = 1.5 if part == 99 else None
        yield ratio_figure(f"{JOBS:,} due at once, {name}", _ms(mine), _ratios(mine, peer), what, at_most=bound)
        bound = 1.2 if part == 99 else None
        ratios = _ratios(with_history, mine)
        yield ratio_figure(f"the same with {stored:,} runs, {name}", _ms(with_history), ratios, "the same with none", at_most=bound)


def _idle(jobs: int, seconds: float, stored: int) -> Iterator[Figure]:
    """CPU of `taskpilot serve` with its fork server while nothing is due."""
    with ExitStack() as stack:
        new, old = stack.enter_context(_root(_idle_jobs(jobs))), stack.enter_context(_root(_idle_jobs(jobs)))
        store_history(old, stored, jobs=JOBS, until=timedelta(days=1))
        servers = [stack.enter_context(_server(root, jobs)) for root in (new, old)]
        before = [_cpu_seconds(server.pid) for server in servers]
        began = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        shares = [(_cpu_seconds(server.pid) - cpu) / passed for server, cpu in zip(servers, before, strict=True)]
    share = shares[0] * 100
    yield Figure(f"{jobs:,} jobs idle", f"{share:.2f} %", f"of a core, in {seconds:g} s", "under 1 %", share < 1)
    name = f"the same with {stored:,} runs"
    yield ratio_figure(name, f"{shares[1] * 100:.2f} %", [shares[1] / shares[0]], "the same with none", at_most=1.2)


def _due_jobs() -> dict[str, str]:
    # Due when the process says so: the anchor comes with its environment.
    lines = ["import os", "from taskpilot import every, job", f'WHEN = every("{EVERY_SECONDS}s", anchor=os.environ["BENCH_ANCHOR"])']
    lines += [f"@job(schedule=WHEN)\ndef job_{number}(ctx): ..." for number in range(JOBS)]
    return {"due.py": "\n".join(lines)}


def _idle_jobs(jobs: int) -> dict[str, str]:
    """A hundred jobs a file."""
    files: dict[str, list[str]] = {}
    for number in range(jobs):
        minute, hour = number % 60, number % _LINES // 60
        text = f'@job(schedule=cron("{minute} {hour} 1 1 *"))\ndef job_{number}(ctx): ...'
        files.setdefault(f"idle_{number // 100}.py", ["from taskpilot import cron, job"]).append(text)
    return {name: "\n".join(lines) for name, lines in files.items()}


@contextmanager
def _root(files: Mapping[str, str]) -> Iterator[Path]:
    with place() as here:
        shutil.rmtree(here.root / "jobs")
        (here.root / "jobs").mkdir()
        for name, text in files.items():
            (here.root / "jobs" / name).write_text(text + "\n")
        yield here.root


def _environment(root: Path) -> dict[str, str]:
    anchor = "1970-01-01T00:00:00Z"
    return {
        "TASKPILOT_HOUSEKEEPING": "off",
        "PATH": os.environ["PATH"],
        "HOME": str(root),
        "PYTHONPATH": str(REPOSITORY),
        "OTEL_ENABLED": "false",
        "BENCH_ANCHOR": anchor,
    }


@contextmanager
def _process(role: str, root: Path, phase: int) -> Iterator["subprocess.Popen[str]"]:
    """Tells a line a round: how late each job was, in seconds."""
    environment = {**_environment(root), "BENCH_ANCHOR": f"1970-01-01T00:00:{phase:02}Z"}
    command = python("-m", "tests.bench.scheduler", role, str(root), str(phase))
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _round(process: "subprocess.Popen[str]") -> list[float]:
    assert process.stdout is not None
    late: list[float] = json.loads(process.stdout.readline())
    return late


@contextmanager
def _server(root: Path, jobs: int) -> Iterator["subprocess.Popen[str]"]:
    """A real server that has come to rest."""
    command = python("-m", "taskpilot", "serve", "--port", "0")
    process = subprocess.Popen(command, cwd=root, env=_environment(root), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        while "scheduler running" not in (line := process.stderr.readline()):
            assert line, "the server did not start"
        # The job files are loaded meanwhile.
        until = time.monotonic() + _LOADED_SECONDS
        while _loaded(root) < jobs:
            assert time.monotonic() < until, f"{_loaded(root)} of {jobs} jobs were loaded"
            time.sleep(0.5)
        time.sleep(3)
        yield process
    finally:
        process.terminate()
        process.communicate()


def _loaded(root: Path) -> int:
    """How many jobs the server has loaded, by its row."""
    with closing(sqlite3.connect(root / ".taskpilot/taskpilot.db")) as connection:
        (found,) = connection.execute("SELECT max(jobs) FROM schedulers").fetchone()
    return int(found or 0)


def _cpu_seconds(pid: int) -> float:
    """What a process has taken so far, with the children that it has now."""
    family = [pid, *(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    # Nanoseconds: an idle server takes fewer ticks of the kernel's clock than one could compare.
    threads = [thread for one in family for thread in Path(f"/proc/{one}/task").iterdir()]
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _percentile(values: Sequence[float], part: int) -> float:
    return quantiles(values, n=100, method="inclusive")[part - 1]


def _ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [mine / theirs for mine, theirs in zip(one, other, strict=True)]


def _ms(values: Sequence[float]) -> str:
    return f"{median(values) * 1000:.1f} ms"


def _tell(late: Iterable[float]) -> None:
    print(json.dumps([round(seconds, 6) for seconds in late]), flush=True)  # noqa: T201 - the other process reads it.


def _ours(root: Path) -> None:
    """A scheduler with its clock and its loop, but without supervisors; what it claims is gone before the next round."""
    from sqlalchemy import text

    from taskpilot.config import load
    from taskpilot.deployment import Deployment
    from taskpilot.ledger.claims import Claimed
    from taskpilot.ledger.fires import Fires
    from taskpilot.scheduler.clock import Clock, WakeEvent
    from taskpilot.scheduler.scheduler import Scheduler
    from taskpilot.scheduler.serving import Notifier, Serving
    from taskpilot.store import schedulers

    deployment = Deployment(load(root=root, environ={}))
    claim_due = Fires.claim_due

    def timed(self: Fires, *arguments: Any, **options: Any) -> Claimed:
        claimed = claim_due(self, *arguments, **options)
        now = time.time()
        if claimed.outcomes:
            with deployment.store.write() as connection:
                found = connection.execute(text("SELECT scheduled_for FROM fires WHERE outcome = 'buffered'")).scalars().all()
                connection.execute(text("DELETE FROM fires WHERE outcome = 'buffered'"))
            _tell(now - micros / 1e6 for micros in found)
        return claimed

    class Nowhere:
        living = 0

        def wait_ready(self, _seconds: float) -> bool:
            return True

        def submit(self, _order: object) -> None:
            raise AssertionError("nothing is in the queue")

        def signal_all(self, _number: int) -> None: ...

    class Quiet:
        def info(self, *_: object, **__: object) -> None: ...

        def warning(self, message: object, **__: object) -> None:
            print(message, file=sys.stderr)  # noqa: T201 - a bench that goes wrong says so.

    Fires.claim_due = timed  # type: ignore[method-assign]
    with deployment.store.write() as connection:
        now, boot = deployment.now(), deployment.boot()
        schedulers.begin_scheduler(connection, "bench", owner=deployment.owner, version="bench", now=now, boot=boot)
    wake_event = WakeEvent()
    clock = Clock(wake_event.set)
    engine = Nowhere()
    scheduler = Scheduler(deployment, engine, clock, scheduler_id="bench", log=Quiet())
    serving = Serving(scheduler, engine, clock, Notifier(None), Quiet(), wake_event=wake_event, drain_seconds=0)
    serving.run()


def _bare(phase: int) -> None:
    """APScheduler as its manual has it, with a memory store and its own pool of threads."""
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.interval import IntervalTrigger

    called: list[float] = []
    scheduler = BackgroundScheduler(timezone=UTC)
    for _ in range(JOBS):
        trigger = IntervalTrigger(seconds=EVERY_SECONDS, start_date=datetime.fromtimestamp(phase, UTC), timezone=UTC)
        scheduler.add_job(lambda: called.append(time.time()), trigger, misfire_grace_time=None)
    scheduler.start()
    while True:
        due = (int(time.time() - phase) // EVERY_SECONDS + 1) * EVERY_SECONDS + phase
        time.sleep(due + EVERY_SECONDS / 2 - time.time())
        _tell(moment - due for moment in called)
        called.clear()


if __name__ == "__main__":
    _role, _folder, _phase = sys.argv[1:]
    if _role == "ours":
        _ours(Path(_folder))
    else:
        _bare(int(_phase))
