"""Runs put into a store as the ledger and the journal would leave them, without either."""

from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from taskpilot.domain import instruments
from taskpilot.domain.ids import new_id
from taskpilot.store import tables, totals
from taskpilot.store.database import Store

T0 = 1_790_000_000_000_000
"""Microseconds: the start of the first attempt of every run here."""
SECOND = 1_000_000


def finished_run(store: Store, job: str = "triage", *, status: str = "succeeded", attempts: int = 1, **values: Any) -> str:
    """A run that is over, with its totals and last values; gives its id."""
    run_id = new_id()
    row = {
        "id": run_id,
        "job": job,
        "status": status,
        "trigger": "manual",
        "parameters": "{}",
        "model": "gpt-4o",
        "trace_id": run_id.replace("-", ""),
        "root_span_id": run_id.replace("-", "")[16:],
        "created_at": T0,
        "started_at": T0,
        "ended_at": T0 + 10 * SECOND,
        "attempts": attempts,
        "attempts_allowed": attempts,
        "active_micros": 2_500_000,
        "deadline_micros": 60 * SECOND,
        "input_tokens": 1200,
        "cached_input_tokens": 1024,
        "output_tokens": 30,
        "cost_nano": 2_020_000,
        "llm_calls": 1,
        "tool_calls": 1,
    } | values
    with store.write() as connection:
        connection.execute(insert(tables.runs).values(row))
        for number in range(1, attempts + 1):
            add_attempt(connection, run_id, number, status=status if number == attempts else "lost")
        totals.add(
            connection,
            job,
            [
                totals.count(instruments.RUNS, status=status),
                totals.count(instruments.ATTEMPTS, attempts),
                totals.count(instruments.LLM_COST, 2_020_000, model="gpt-4o", agent="planner"),
                *totals.observed(instruments.RUN_DURATION, 2_500_000),
            ],
        )
        last: dict[str, Any] = {"last_status": status, "last_completion": T0 + 10 * SECOND, "last_cost_nano": 2_020_000}
        if status == "succeeded":
            last["last_success"] = T0 + 10 * SECOND
        totals.set_state(connection, job, **last)
    return run_id


def add_attempt(connection: Any, run_id: str, number: int, *, status: str = "succeeded") -> None:
    """An attempt of ten seconds that ended; the second one begins ten seconds after the first."""
    start = T0 + (number - 1) * 10 * SECOND
    row = {"id": new_id(), "run_id": run_id, "number": number, "status": status, "started_at": start, "ended_at": start + 10 * SECOND}
    connection.execute(insert(tables.attempts).values(row))


def add_step(store: Store, run_id: str, kind: str, name: str, **values: Any) -> str:
    """A step that took a second; gives its id."""
    step_id = new_id()
    row = {
        "id": step_id,
        "run_id": run_id,
        "attempt": 1,
        "scope": "",
        "kind": kind,
        "name": name,
        "ordinal": 0,
        "key": step_id,
        "make": 0,
        "status": "succeeded",
        "input_digest": "",
        "input": '{"prompt":"the prompt is private"}',
        "result": '"the result is private"',
        "started_at": T0 + SECOND,
        "ended_at": T0 + 2 * SECOND,
    } | values
    with store.write() as connection:
        connection.execute(insert(tables.steps).values(row))
    return step_id


def add_agent(store: Store, run_id: str, agent: str, scope: str, *, attempt: int = 1, status: str = "succeeded") -> None:
    """An agent's work of three seconds."""
    row = {"run_id": run_id, "scope": scope, "attempt": attempt, "agent": agent, "status": status}
    row |= {"started_at": T0, "ended_at": T0 + 3 * SECOND}
    with store.write() as connection:
        connection.execute(insert(tables.agents).values(row))


def add_decision(store: Store, run_id: str, step_key: str, *, job: str = "triage", verdict: str = "allow", **values: Any) -> str:
    """A decision of the embedded policy; gives its id."""
    decision_id = new_id()
    row = {
        "id": decision_id,
        "run_id": run_id,
        "job": job,
        "step_key": step_key,
        "agent": "executor",
        "tool": "create_task",
        "arguments": '{"title":"the argument is private"}',
        "engine": "regorus",
        "path": "taskpilot/decision",
        "verdict": verdict,
        "status": "final",
        "reasons": "[]",
        "input": "{}",
        "decided_at": T0 + SECOND,
        "evaluation_nanoseconds": 4000,
    } | values
    with store.write() as connection:
        connection.execute(insert(tables.decisions).values(row))
    return decision_id


def job_state(store: Store, job: str = "triage") -> Any:
    """The job's row of last values."""
    with store.read() as connection:
        return connection.execute(select(tables.job_state).where(tables.job_state.c.job == job)).first()


def total(store: Store, metric: str, job: str = "triage", **labels: str) -> int:
    """One running total; 0 where there is none."""
    wanted = (tables.totals.c.job == job) & (tables.totals.c.metric == metric) & (tables.totals.c.labels == totals.canonical(labels))
    with store.read() as connection:
        return connection.execute(select(tables.totals.c.value).where(wanted)).scalar() or 0


_opened: list[Store] = []


def opened(state_dir: Path, deployment: str = "testing") -> Store:
    """A store in a new state dir; `close_opened` closes it."""
    store = Store.open(state_dir, deployment)
    _opened.append(store)
    return store


def close_opened() -> None:
    """Closes every store that `opened` gave: from Python 3.13 on, one that is left to the collector is a warning."""
    while _opened:
        _opened.pop().close()
