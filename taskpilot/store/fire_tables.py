"""The part of the schema that knows when jobs are due: schedules, fires, gaps, pauses, schedulers and what people did through the API."""

import json
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, PrimaryKeyConstraint, Table, Text, func, select, text

metadata: Final = MetaData()

fires = Table(
    "fires",
    metadata,
    Column("job", Text, nullable=False),
    Column("scheduled_for", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("run_id", Text),
    Column("reason", Text, nullable=False, server_default=""),
    Column("recorded_at", BigInteger, nullable=False),
    # Of a buffered fire: not before this instant (jitter, stagger), and who took it out of the queue to start it, and when.
    Column("start_after", BigInteger),
    Column("launched_at", BigInteger),
    Column("launched_by", Text),
    PrimaryKeyConstraint("job", "scheduled_for"),
    Index("fires_in_queue", "start_after", "scheduled_for", sqlite_where=text("outcome = 'buffered'")),
    Index("fires_missed", "recorded_at", "job", sqlite_where=text("outcome = 'missed'")),
)
"""One row a fire. `buffered` is the queue: every other outcome is final."""

fire_gaps = Table(
    "fire_gaps",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, nullable=False),
    Column("from_at", BigInteger, nullable=False),
    Column("to_at", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("schedule", Text, nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Index("fire_gaps_by_job", "job", "to_at"),
    Index("fire_gaps_by_record", "recorded_at"),
)
"""Many fires with one outcome as one row: those of `schedule` in the closed interval [from_at, to_at] that have no row of their own."""

schedules = Table(
    "schedules",
    metadata,
    Column("job", Text, primary_key=True),
    Column("schedule", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("cursor", BigInteger, nullable=False),
)
"""The schedule that a job has, and its cursor: every fire at or before it has its outcome."""

past_schedules = Table(
    "past_schedules",
    metadata,
    Column("job", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("schedule", Text, nullable=False),
    PrimaryKeyConstraint("job", "since"),
)
"""The schedules that a job had before."""

pauses = Table(
    "pauses",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, nullable=False),
    Column("paused_at", BigInteger, nullable=False),
    Column("paused_by", Text, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("resumed_at", BigInteger),
    Column("resumed_by", Text),
    Column("resume_note", Text, nullable=False, server_default=""),
    Index("pauses_by_job", "job", "paused_at"),
    Index("pauses_in_force", "job", unique=True, sqlite_where=text("resumed_at IS NULL")),
)

schedulers = Table(
    "schedulers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("last_tick_at", BigInteger, nullable=False),
    Column("lag_micros", BigInteger, nullable=False, server_default="0"),
    Column("jobs", Integer, nullable=False, server_default="0"),
    Column("broken", Text, nullable=False, server_default="[]"),
    Column("error", Text),
    Column("stopped_at", BigInteger),
    Index("schedulers_by_tick", "last_tick_at"),
)
"""One row for each start of `taskpilot serve`; its `last_tick_at` is how anybody sees that it is awake."""

clock_events = Table(
    "clock_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("from_at", BigInteger, nullable=False),
    Column("to_at", BigInteger, nullable=False),
    Index("clock_events_by_end", "to_at"),
)
"""When no scheduler was awake, and when the clock was set: what `why` tells of a fire that was missed."""

audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("answer", Text, nullable=False, server_default=""),
)
"""One row for each write that came through the API."""


def among(column: Column[str], values: Collection[str]) -> Any:
    """The condition that a column has one of many values, as one parameter: ten thousand of their own would be too many."""
    return column.in_(select(func.json_each(json.dumps(list(values))).table_valued("value").c.value))
