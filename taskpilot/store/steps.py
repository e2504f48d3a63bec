"""Queries over the journal: steps, reservations, and invocations of agents."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Update, bindparam, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import MEMORY, Step, StepKind, StepStatus
from taskpilot.domain.times import to_micros
from taskpilot.store import prepared
from taskpilot.store.records import dumps, loads, step_of
from taskpilot.store.tables import agents, runs, steps

# The queries of every step are built once: SQLAlchemy takes longer to build a statement than SQLite to run it.
_SELECT_STEPS: Final = select(steps).where(steps.c.run_id == bindparam("the_run")).order_by(steps.c.position)
_SELECT_BEGUN: Final = _SELECT_STEPS.where(steps.c.status == StepStatus.BEGUN)
_INSERT_STEP: Final = insert(steps)
_END_STEP: Final = update(steps).where(steps.c.id == bindparam("the_step"), steps.c.status == StepStatus.BEGUN)


def steps_of(connection: Connection, run_id: str) -> list[Step]:
    """Every recorded step of a run, by start."""
    return [step_of(row) for row in connection.execute(_SELECT_STEPS, {"the_run": run_id})]


def get_step(connection: Connection, run_id: str, step_id: str) -> Step | None:
    """One step of a run."""
    row = connection.execute(select(steps).where(steps.c.run_id == run_id, steps.c.id == step_id)).first()
    return None if row is None else step_of(row)


def effects_below(connection: Connection, run_id: str, scope: str) -> list[Step]:
    """The calls below a scope that had an effect or may have had one, and must not be repeated; by start."""
    happened = [StepStatus.SUCCEEDED, StepStatus.BEGUN, StepStatus.UNKNOWN, StepStatus.RETRY_REQUESTED]
    wanted = _SELECT_STEPS.where(
        steps.c.kind == StepKind.CALL,
        steps.c.idempotent == 0,
        steps.c.status.in_(happened),
        (steps.c.scope == scope) | steps.c.scope.startswith(f"{scope}/", autoescape=True),
    )
    # Of a call that a person had made again, only the last make counts.
    newest = {step.key: step for step in (step_of(row) for row in connection.execute(wanted, {"the_run": run_id}))}
    return list(newest.values())


def begun_steps(connection: Connection, run_id: str) -> list[Step]:
    """The steps that were begun and have no end."""
    return [step_of(row) for row in connection.execute(_SELECT_BEGUN, {"the_run": run_id})]


def remembered(connection: Connection, job: str, key: str) -> Any:
    """The value that the newest succeeded run of a job remembered last under a key; None where there is none.

    Both halves are read by an index: the job's succeeded runs from the newest one back, and of each one what it remembered.
    """
    memory = (steps.c.run_id == runs.c.id) & (steps.c.scope == MEMORY) & (steps.c.kind == StepKind.REMEMBER) & (steps.c.name == key)
    wanted = (
        select(steps.c.result)
        .select_from(runs.join(steps, memory))
        .where(runs.c.job == job, runs.c.status == RunStatus.SUCCEEDED)
        .order_by(runs.c.id.desc(), steps.c.position.desc())
        .limit(1)
    )
    return loads(connection.execute(wanted).scalar())


def insert_step(connection: Connection, step: Step, *, input_digest: str) -> None:
    """Records a step; its run, key and make are unique."""
    row = {
        "id": step.id,
        "run_id": step.run_id,
        "attempt": step.attempt,
        "scope": step.scope,
        "kind": step.kind,
        "name": step.name,
        "ordinal": step.ordinal,
        "key": step.key,
        "make": step.make,
        "status": step.status,
        "agent": step.agent,
        "model": step.model,
        "input_digest": input_digest,
        "input": None if step.input is None else dumps(step.input),
        "result": None if step.result is None else dumps(step.result),
        "error": step.error,
        "error_type": step.error_type,
        "started_at": to_micros(step.started_at),
        "ended_at": None if step.ended_at is None else to_micros(step.ended_at),
        "reserved_nano": step.reserved_nano,
        "reserved_tokens": step.reserved_tokens,
        "diverged": int(step.diverged),
        "decision_id": step.decision_id,
        "idempotent": int(step.idempotent),
        "position": step.position,
    }
    prepared.execute(connection, _INSERT_STEP, row)


def end_step(connection: Connection, step_id: str, **values: Any) -> bool:
    """Sets the end of a step that was begun; False where it had one already."""
    return prepared.execute(connection, _END_STEP, {"the_step": step_id, **values}) == 1


def reserve_retry(connection: Connection, step: Step) -> None:
    """Sets the reservation of a step that was begun, all its tries together."""
    reserved = {"reserved_nano": step.reserved_nano, "reserved_tokens": step.reserved_tokens}
    prepared.execute(connection, _END_STEP, {"the_step": step.id, **reserved})


def answer_step(connection: Connection, step_id: str, **values: Any) -> None:
    """Sets a person's answer about an uncertain step."""
    connection.execute(update(steps).where(steps.c.id == step_id).values(**values))


_RESERVED: Final = ("reserved_nano", "reserved_tokens", "llm_calls", "tool_calls")
_SETTLED: Final = (
    "reserved_nano",
    "reserved_tokens",
    "spent_nano",
    "spent_tokens",
    "cost_nano",
    "unpriced_calls",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
)


def _adding(names: tuple[str, ...]) -> Update:
    """Adds the parameters `add_NAME` to columns of a run."""
    return update(runs).where(runs.c.id == bindparam("the_run")).values({name: runs.c[name] + bindparam(f"add_{name}") for name in names})


_RESERVE: Final = _adding(_RESERVED)
_SETTLE: Final = _adding(_SETTLED)


def reserve(connection: Connection, run_id: str, *, cost_nano: int, tokens: int, llm_calls: int, tool_calls: int) -> None:
    """Reserves the most that one call may use in the run's budget."""
    amounts = (cost_nano, tokens, llm_calls, tool_calls)
    prepared.execute(connection, _RESERVE, {"the_run": run_id, **_added(_RESERVED, amounts)})


def settle(connection: Connection, step: Step, *, cost_nano: int | None, unpriced: bool, tokens: int, usage: tuple[int, int, int]) -> None:
    """Replaces a step's reservation by what it used: `tokens` and `cost_nano` for the budget, `usage` as reported."""
    reserved_nano = step.reserved_nano or 0
    spent_nano = reserved_nano if cost_nano is None else cost_nano
    amounts = (-reserved_nano, -step.reserved_tokens, spent_nano, tokens, cost_nano or 0, int(unpriced), *usage)
    prepared.execute(connection, _SETTLE, {"the_run": step.run_id, **_added(_SETTLED, amounts)})


def _added(names: tuple[str, ...], amounts: tuple[int, ...]) -> dict[str, int]:
    return {f"add_{name}": amount for name, amount in zip(names, amounts, strict=True)}


_RECORD_AGENT: Final = upsert(agents).on_conflict_do_nothing()


def record_agent(
    connection: Connection, *, run_id: str, scope: str, attempt: int, agent: str, status: str, started_at: datetime, ended_at: datetime
) -> None:
    """Records one invocation of an agent."""
    row = {
        "run_id": run_id,
        "scope": scope,
        "attempt": attempt,
        "agent": agent,
        "status": status,
        "started_at": to_micros(started_at),
        "ended_at": to_micros(ended_at),
    }
    prepared.execute(connection, _RECORD_AGENT, row)
