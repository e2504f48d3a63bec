"""Running totals, added to in the transaction of each change, so that pruning history changes no counter."""

import json
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import Insert, insert

from taskpilot.domain.instruments import Instrument
from taskpilot.store import prepared
from taskpilot.store.tables import job_state, totals

AGENTS_MAX: Final = 20
"""Agents a job may have as label values; further ones are counted as `other`."""


@dataclass(frozen=True, slots=True)
class Increment:
    """What one transaction adds to one series."""

    metric: str
    labels: str
    amount: int


def canonical(labels: dict[str, str]) -> str:
    """The labels as they are stored: JSON, sorted, no spaces."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def count(instrument: Instrument, amount: int = 1, **labels: str) -> Increment:
    """An addition to a counter, in 1/scale units."""
    return Increment(instrument.name, canonical(labels), amount)


def observed(instrument: Instrument, value: int, **labels: str) -> tuple[Increment, ...]:
    """An observation of a histogram: its bucket (not cumulative), its sum and its count."""
    bounds = instrument.buckets
    position = bisect_left([bound * instrument.scale for bound in bounds], value)
    bound = repr(bounds[position]) if position < len(bounds) else "+Inf"
    plain = canonical(labels)
    return (
        Increment(f"{instrument.name}_bucket", canonical({**labels, "le": bound}), 1),
        Increment(f"{instrument.name}_sum", plain, value),
        Increment(f"{instrument.name}_count", plain, 1),
    )


def add(connection: Connection, job: str, increments: Iterable[Increment]) -> None:
    """Adds to the job's totals."""
    rows = [{"job": job, "metric": one.metric, "labels": one.labels, "value": one.amount} for one in increments if one.amount]
    if rows:
        prepared.execute_many(connection, _addition(), rows)


@dataclass(frozen=True, slots=True)
class Change:
    """A job whose ledger a transaction changed."""

    job: str
    ended_run: str | None = None
    """The run that ended or began to wait, where one did."""


CHANGES: Final = "taskpilot_changes"
"""The option of a connection that holds the set in which a write transaction collects its changes."""


def mark_dirty(connection: Connection, job: str, *, announce: bool = True) -> None:
    """Records that the job's ledger changed: its gateway group becomes pending, and `Store.on_change` is called after the commit.

    Without `announce` it is not called: whoever pushes what is pending comes by soon.
    """
    set_state(connection, job, announce=announce)


def set_state(connection: Connection, job: str, *, ended_run: str | None = None, announce: bool = True, **values: object) -> None:
    """Sets the job's last values, and marks it as changed."""
    prepared.execute(connection, _state_change(tuple(values)), {"job": job, "version": 1, **values})
    if announce:
        connection.get_execution_options().get(CHANGES, set()).add(Change(job, ended_run))


def bounded_agent(connection: Connection, job: str, agent: str, metric: str) -> str:
    """The agent's name as a label, or `other` where the job already has `AGENTS_MAX` agents."""
    wanted = func.json_extract(totals.c.labels, "$.agent")
    known = set(connection.execute(select(wanted).distinct().where(totals.c.job == job, totals.c.metric == metric)).scalars())
    return agent if agent in known or len(known - {"other"}) < AGENTS_MAX else "other"


# Each built once: SQLAlchemy takes longer to build a statement than SQLite to run it.
@cache
def _addition() -> Insert:
    added = insert(totals)
    return added.on_conflict_do_update(index_elements=["job", "metric", "labels"], set_={"value": totals.c.value + added.excluded.value})


@cache
def _state_change(names: tuple[str, ...]) -> Insert:
    changed = insert(job_state)
    given = {name: changed.excluded[name] for name in names}
    return changed.on_conflict_do_update(index_elements=["job"], set_={"version": job_state.c.version + 1, **given})
