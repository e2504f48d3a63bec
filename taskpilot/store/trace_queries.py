"""What traces read of the record; a run's content (prompts, arguments, results) is not among it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Row, bindparam, select, update

from taskpilot.domain.moments import to_micros
from taskpilot.domain.runs import RunStatus
from taskpilot.store.tables import agents, attempts, decisions, runs, steps

_AT_WORK: Final = (RunStatus.QUEUED.value, RunStatus.RUNNING.value)

_STEP_COLUMNS: Final = tuple(
    steps.c[name]
    for name in (
        "id", "attempt", "scope", "kind", "name", "key", "make", "status", "agent", "model", "error_type", "started_at", "ended_at",
        "input_tokens", "cached_input_tokens", "output_tokens", "cost_nano", "retries", "diverged", "decision_id",
    )
)  # fmt: skip
_DECISION_COLUMNS: Final = tuple(
    decisions.c[name] for name in ("id", "step_key", "agent", "tool", "engine", "path", "verdict", "decided_at", "evaluation_nanoseconds")
)

# Every run's end asks these: they are built once.
_THE_RUN: Final[BindParameter[Any]] = bindparam("the_run")
_NUMBERS: Final[BindParameter[Any]] = bindparam("numbers", expanding=True)
_MOST: Final[BindParameter[Any]] = bindparam("most")
_SELECT_OWED: Final = (
    select(attempts.c.run_id)
    .join(runs, runs.c.id == attempts.c.run_id)
    .where(attempts.c.traces_written_at.is_(None), attempts.c.ended_at.is_not(None), runs.c.status.not_in(_AT_WORK))
    .distinct()
    .order_by(attempts.c.run_id)
    .limit(_MOST)
)
_SELECT_RUN: Final = select(runs).where(runs.c.id == _THE_RUN, runs.c.status.not_in(_AT_WORK))
_SELECT_ATTEMPTS: Final = select(attempts).where(attempts.c.run_id == _THE_RUN).order_by(attempts.c.number)
_SELECT_STEPS: Final = (
    select(*_STEP_COLUMNS).where(steps.c.run_id == _THE_RUN, steps.c.attempt.in_(_NUMBERS)).order_by(steps.c.started_at).limit(_MOST)
)
_SELECT_AGENTS: Final = (
    select(agents).where(agents.c.run_id == _THE_RUN, agents.c.attempt.in_(_NUMBERS)).order_by(agents.c.started_at).limit(_MOST)
)
_SELECT_DECISIONS: Final = select(*_DECISION_COLUMNS).where(decisions.c.run_id == _THE_RUN).order_by(decisions.c.decided_at).limit(_MOST)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run and what its attempts did whose spans are not written yet."""

    run: Row[Any]
    attempts: list[Row[Any]]
    root_written: bool
    """True where spans of an earlier attempt are written, and the root's with them."""
    steps: list[Row[Any]]
    agents: list[Row[Any]]
    decisions: list[Row[Any]]


def runs_with_owed_traces(connection: Connection, *, limit: int) -> list[str]:
    """Ids of runs that are over or parked and have attempts whose spans are not written, oldest first."""
    return list(connection.execute(_SELECT_OWED, {"most": limit}).scalars())


def record_of(connection: Connection, run_id: str, *, rows_max: int) -> RunRecord | None:
    """What is to be written of a run, at most `rows_max` rows of each kind; None where it is at work or nothing is owed."""
    wanted = {"the_run": run_id, "most": rows_max}
    run = connection.execute(_SELECT_RUN, wanted).first()
    if run is None:
        return None
    every = list(connection.execute(_SELECT_ATTEMPTS, wanted))
    owed = [row for row in every if row.traces_written_at is None and row.ended_at is not None]
    if not owed:
        return None
    made = {**wanted, "numbers": [row.number for row in owed]}
    return RunRecord(
        run=run,
        attempts=owed,
        root_written=len(owed) < len([row for row in every if row.ended_at is not None]),
        steps=list(connection.execute(_SELECT_STEPS, made)),
        agents=list(connection.execute(_SELECT_AGENTS, made)),
        decisions=list(connection.execute(_SELECT_DECISIONS, wanted)),
    )


def mark_traces_written(connection: Connection, attempt_ids: Iterable[str], now: datetime) -> None:
    """Notes that the spans of these attempts are in traces.jsonl."""
    connection.execute(update(attempts).where(attempts.c.id.in_(list(attempt_ids))).values(traces_written_at=to_micros(now)))
