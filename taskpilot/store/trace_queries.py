"""Queries of the traces: recorded runs, and spans not yet written to traces.jsonl or sent to the collector."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Row, bindparam, func, or_, select, update

from taskpilot.domain.runs import RunStatus
from taskpilot.domain.times import to_micros
from taskpilot.store.tables import agents, attempts, decisions, runs, steps

_AT_WORK: Final = (RunStatus.QUEUED.value, RunStatus.RUNNING.value)

_STEP_COLUMNS: Final = tuple(
    steps.c[name]
    for name in (
        "id", "attempt", "scope", "kind", "name", "key", "make", "status", "agent", "model", "error_type", "started_at", "ended_at",
        "input_tokens", "cached_input_tokens", "output_tokens", "cost_nano", "retries", "diverged", "decision_id",
    )
)  # fmt: skip
_CONTENT_COLUMNS: Final = (steps.c.input, steps.c.result)
_DECISION_COLUMNS: Final = tuple(
    decisions.c[name]
    for name in (
        "id", "step_key", "agent", "tool", "engine", "path", "verdict", "status", "decided_at", "evaluation_nanoseconds", "settled_at",
    )
)  # fmt: skip

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
_SELECT_RUN: Final = select(runs).where(runs.c.id == _THE_RUN)
_SELECT_ATTEMPTS: Final = select(attempts).where(attempts.c.run_id == _THE_RUN).order_by(attempts.c.number)
_SELECT_STEPS: Final = (
    select(*_STEP_COLUMNS).where(steps.c.run_id == _THE_RUN, steps.c.attempt.in_(_NUMBERS)).order_by(steps.c.position).limit(_MOST)
)
_SELECT_AGENTS: Final = (
    select(agents).where(agents.c.run_id == _THE_RUN, agents.c.attempt.in_(_NUMBERS)).order_by(agents.c.started_at).limit(_MOST)
)
_SELECT_DECISIONS: Final = select(*_DECISION_COLUMNS).where(decisions.c.run_id == _THE_RUN).order_by(decisions.c.decided_at).limit(_MOST)

COUNTED_MAX: Final = 10_000
"""Without a collector all runs may be pending: a million of them are not counted at each query."""
_CLOCK_STEP: Final = timedelta(hours=1)
"""No delivery is delayed for so long: what is due later was written before the clock was set back."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run with the records of some of its attempts."""

    run: Row[Any]
    attempts: list[Row[Any]]
    ended: list[Row[Any]]
    """All attempts of the run that have ended."""
    steps: list[Row[Any]]
    """With `input` and `result` where the content was asked for."""
    agents: list[Row[Any]]
    decisions: list[Row[Any]]
    """All of the run, so that a later attempt finds what was approved before it."""

    @property
    def has_first(self) -> bool:
        """Whether the first attempt that ended is among them: the run's root span goes with it."""
        return bool(self.attempts[0].id == self.ended[0].id)

    @property
    def is_at_work(self) -> bool:
        """Whether a further attempt is running or will follow."""
        return self.run.status in _AT_WORK


def runs_with_pending_traces(connection: Connection, *, limit: int) -> list[str]:
    """Ids of runs that have ended or wait and have attempts whose spans are not written, oldest first."""
    return list(connection.execute(_SELECT_OWED, {"most": limit}).scalars())


def record_to_write(connection: Connection, run_id: str, *, rows_max: int, content: bool = False) -> RunRecord | None:
    """The attempts whose spans are not written, at most `rows_max` rows of each kind; None where the run is running or has none."""
    run, every = _run_and_attempts(connection, run_id)
    chosen = [row for row in every if row.traces_written_at is None]
    if run is None or run.status in _AT_WORK or not chosen:
        return None
    return _record(connection, run, every, chosen, rows_max, content=content)


def record_to_deliver(
    connection: Connection, run_id: str, attempt_ids: Sequence[str], *, rows_max: int, content: bool = False
) -> RunRecord | None:
    """The attempts of a run that are named, at most `rows_max` rows of each kind; None where they are gone."""
    run, every = _run_and_attempts(connection, run_id)
    chosen = [row for row in every if row.id in attempt_ids]
    return None if run is None or not chosen else _record(connection, run, every, chosen, rows_max, content=content)


def _run_and_attempts(connection: Connection, run_id: str) -> tuple[Row[Any] | None, list[Row[Any]]]:
    """The run, and its attempts that have ended."""
    wanted = {"the_run": run_id}
    every = connection.execute(_SELECT_ATTEMPTS, wanted)
    return connection.execute(_SELECT_RUN, wanted).first(), [row for row in every if row.ended_at is not None]


def _record(
    connection: Connection, run: Row[Any], every: Sequence[Row[Any]], chosen: list[Row[Any]], rows_max: int, *, content: bool
) -> RunRecord:
    made = {"the_run": run.id, "most": rows_max, "numbers": [row.number for row in chosen]}
    select_steps = _SELECT_STEPS.add_columns(*_CONTENT_COLUMNS) if content else _SELECT_STEPS
    return RunRecord(
        run=run,
        attempts=chosen,
        ended=list(every),
        steps=list(connection.execute(select_steps, made)),
        agents=list(connection.execute(_SELECT_AGENTS, made)),
        decisions=list(connection.execute(_SELECT_DECISIONS, {"the_run": run.id, "most": rows_max})),
    )


def mark_traces_written(connection: Connection, attempt_ids: Iterable[str], now: datetime, *, due_at: datetime | None) -> None:
    """Records that the spans of these attempts are in traces.jsonl, and when they may be sent; None: they are not sent."""
    values = {"traces_written_at": to_micros(now), "traces_due_at": None if due_at is None else to_micros(due_at)}
    connection.execute(update(attempts).where(attempts.c.id.in_(list(attempt_ids))).values(values))


def mark_traces_delivered(connection: Connection, attempt_ids: Iterable[str]) -> None:
    """Records that the collector has the spans of these attempts, or will never accept them."""
    connection.execute(update(attempts).where(attempts.c.id.in_(list(attempt_ids))).values(traces_due_at=None))


def claim_due_traces(connection: Connection, now: datetime, *, until: datetime, limit: int) -> dict[str, list[str]]:
    """Reserves the due attempts for this process `until` then, longest due first, at most `limit`; gives their ids by run."""
    at = to_micros(now)
    late = or_(attempts.c.traces_due_at <= at, attempts.c.traces_due_at > to_micros(now + _CLOCK_STEP))
    rows = connection.execute(
        select(attempts.c.id, attempts.c.run_id)
        .where(attempts.c.traces_due_at.is_not(None), late)
        .order_by(attempts.c.traces_due_at)
        .limit(limit)
    ).all()
    claimed: dict[str, list[str]] = {}
    for row in rows:
        claimed.setdefault(row.run_id, []).append(row.id)
    put_off_traces(connection, [row.id for row in rows], until)
    return claimed


def put_off_traces(connection: Connection, attempt_ids: Iterable[str], until: datetime) -> None:
    """Sets from when on the spans of these attempts may be delivered, as far as they are still pending."""
    pending = attempts.c.id.in_(list(attempt_ids)) & attempts.c.traces_due_at.is_not(None)
    connection.execute(update(attempts).where(pending).values(traces_due_at=to_micros(until)))


def runs_with_undelivered_traces(connection: Connection) -> int:
    """How many runs have spans that were not sent to the collector; counted up to `COUNTED_MAX` attempts."""
    pending = select(attempts.c.run_id).where(attempts.c.traces_due_at.is_not(None)).limit(COUNTED_MAX).subquery()
    return int(connection.execute(select(func.count(pending.c.run_id.distinct()))).scalar_one())
