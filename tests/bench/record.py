"""What the record costs: a run's rows against raw sqlite3, and the engine around three steps that do nothing."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from statistics import median
from typing import Any, TypeVar

from taskpilot.app.wiring import App
from taskpilot.cli.progress import NoDisplay
from taskpilot.config import load
from taskpilot.domain.ids import new_id
from taskpilot.domain.runs import Outcome, RunStatus, TriggerKind
from taskpilot.domain.specs import JobSpec
from taskpilot.ledger.claims import Claim, RunPlan
from taskpilot.runner import Runner
from taskpilot.services.planning import RunRequest
from tests.bench.figures import Figure, in_turn, most_figure, ratio_figure
from tests.bench.place import place

T = TypeVar("T")
Statements = list[list[str]]
"""What a store was asked, by transaction: its writing statements, with their values."""


def bench(rounds: int) -> Iterator[Figure]:
    """A run record, and three steps in one process and with its pair."""
    with opened_app() as app:
        yield from _record(app, rounds)
    with opened_app() as app:
        yield _in_one_process(app, rounds)
    with opened_app() as app:
        # What the child imports is loaded before, as a fork server has it.
        three_steps(app)
        yield _with_its_pair(app, rounds)


@contextmanager
def opened_app() -> Iterator[App]:
    """The engine over a root of its own: what one benchmark leaves pending is not paid by the next."""
    with place() as here:
        app = App(load(root=here.root, environ={"OTEL_ENABLED": "false", "TASKPILOT_HOUSEKEEPING": "off"}))
        try:
            yield app
        finally:
            app.deployment.close()


def _record(app: App, rounds: int) -> Iterator[Figure]:
    """Claim and end of a run, each a transaction, against the same writes by raw sqlite3 and against one insert and one update."""
    spec = app.deployment.catalog.get("nothing")

    def ours() -> Claim:
        claimed = claim(app, spec)
        app.deployment.ledger.end(claimed.grant, Outcome(RunStatus.SUCCEEDED, result="done"), active_seconds=0.1, keep_lease=True)
        return claimed

    ours()
    transactions, claimed = _told(app, ours)
    writes = f"its {sum(map(len, transactions))} writes by raw sqlite3"
    with _raw(app) as raw:
        works = (ours, lambda: _replay(raw, transactions, claimed), lambda: _insert_and_update(raw))
        by_wall = in_turn(rounds * 20, *(_timed(work, time.perf_counter) for work in works))
        by_cpu = in_turn(rounds * 20, *(_timed(work, time.process_time) for work in works))
    value = f"{median(one for one, _, _ in by_wall) * 1000:.2f} ms"
    yield ratio_figure("run record", value, [one / same for one, same, _ in by_wall], writes, at_most=3)
    least = [one / two for one, _, two in by_wall]
    yield ratio_figure("run record", value, least, "one insert and one update by raw sqlite3", at_most=3)
    # A disk that is slow to sync hides the engine; its CPU shows it.
    value = f"{median(one for one, _, _ in by_cpu) * 1000:.2f} ms CPU"
    yield ratio_figure("run record", value, [one / same for one, same, _ in by_cpu], writes)


def _in_one_process(app: App, rounds: int) -> Figure:
    """From the claim to the recorded end of three steps, against as many commits of one small row."""

    def ours() -> None:
        three_steps(app)

    ours()
    commits = len(_told(app, ours)[0])
    with _raw(app) as raw:
        pairs = in_turn(rounds * 5, _timed(ours, time.perf_counter), _timed(lambda: _commit(raw, commits), time.perf_counter))
    value = f"{median(one for one, _ in pairs) * 1000:.1f} ms"
    return ratio_figure("three steps, one process", value, [one / other for one, other in pairs], f"its own {commits} commits", at_most=10)


def three_steps(app: App) -> None:
    """One run of the job, from its claim to its recorded end, in this process."""
    spec = app.deployment.catalog.get("three_steps")
    grant = claim(app, spec).grant
    app.deployment.make_run_dir(grant.run_id)
    session = app.open_session(spec, grant, 60.0)
    outcome = Runner(end=app.deployment.ledger.end, now=app.deployment.now).run(session, grant)
    assert (outcome.status, outcome.result) == (RunStatus.SUCCEEDED, 3)


def _with_its_pair(app: App, rounds: int) -> Figure:
    """The whole of `run` but the imports: plan, claim, fork, supervise, record, files; the CPU of both processes."""

    def ours() -> float:
        began = _cpu()
        finished = app.run(RunRequest(job="three_steps"), NoDisplay())
        assert finished.exit_code == 0
        return _cpu() - began

    return most_figure("three steps, with its pair", [one for (one,) in in_turn(rounds, ours)], "CPU of both processes", at_most_ms=40)


def _cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [getrusage(whose) for whose in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def claim(app: App, spec: JobSpec, parameters: dict[str, Any] | None = None) -> Claim:
    """A run of a job, claimed for this process."""
    plan = RunPlan(run_id=new_id(), spec=spec, parameters=parameters or {}, model=spec.model, trigger=TriggerKind.MANUAL)
    claimed = app.deployment.ledger.claim(plan)
    assert isinstance(claimed, Claim)
    return claimed


def _timed(work: Callable[[], Any], clock: Callable[[], float]) -> Callable[[], float]:
    def timed() -> float:
        began = clock()
        work()
        return clock() - began

    return timed


def _told(app: App, work: Callable[[], T]) -> tuple[Statements, T]:
    """The writing statements of one piece of work, as SQLite saw them, and what it gave."""
    seen: list[str] = []
    connect = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(seen.append)
        return connection

    app.deployment.store.dispose()
    sqlite3.connect = watched
    try:
        given = work()
    finally:
        sqlite3.connect = connect
        app.deployment.store.dispose()
    transactions: Statements = []
    for statement in seen:
        if statement == "BEGIN IMMEDIATE":
            transactions.append([])
        elif statement.startswith(("INSERT", "UPDATE")) and statement not in transactions[-1][-1:]:
            # SQLite shows a statement once more for each trigger that it fires.
            transactions[-1].append(statement)
    return transactions, given


@contextmanager
def _raw(app: App) -> Iterator[sqlite3.Connection]:
    """The plainest connection to a copy of the store: the same tables, the same safety."""
    path = app.deployment.settings.root / "raw.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        with closing(sqlite3.connect(app.deployment.store.path)) as source:
            source.backup(raw)
        raw.execute("PRAGMA journal_mode=WAL")
        raw.execute("PRAGMA synchronous=FULL")
        raw.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, job TEXT, status TEXT, result TEXT)")
        yield raw
    path.unlink()


def _replay(raw: sqlite3.Connection, transactions: Statements, claim: Claim) -> None:
    """The same writes, of a run and an attempt of their own."""
    run_id, attempt_id = new_id(), new_id()
    for transaction in transactions:
        raw.execute("BEGIN IMMEDIATE")
        for statement in transaction:
            raw.execute(statement.replace(claim.run.id, run_id).replace(claim.grant.attempt_id, attempt_id))
        raw.execute("COMMIT")


def _insert_and_update(raw: sqlite3.Connection) -> None:
    raw.execute("BEGIN IMMEDIATE")
    made = raw.execute("INSERT INTO bare (job, status) VALUES ('nothing', 'running')").lastrowid
    raw.execute("COMMIT")
    raw.execute("BEGIN IMMEDIATE")
    raw.execute("UPDATE bare SET status = 'succeeded', result = 'done' WHERE id = ?", (made,))
    raw.execute("COMMIT")


def _commit(raw: sqlite3.Connection, commits: int) -> None:
    for _ in range(commits):
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("INSERT INTO bare (job, status) VALUES ('three_steps', 'running')")
        raw.execute("COMMIT")
