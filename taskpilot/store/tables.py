"""The schema: times are UTC epoch microseconds, money is integer nano-USD, ids are UUIDv7 text."""

import json
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
    text,
)

metadata: Final = MetaData()


def reason_pair() -> tuple[Column[str], Column[str]]:
    """The columns of a reason: a code, and its facts as JSON."""
    return Column("reason_code", Text, nullable=False, server_default=""), Column("reason_facts", Text, nullable=False, server_default="{}")


fires = Table(
    "fires",
    metadata,
    Column("job", Text, nullable=False),
    Column("scheduled_for", BigInteger, nullable=False),
    # Identifies an event's fire among those of its job; empty for a scheduled fire, whose key is its time.
    Column("key", Text, nullable=False, server_default=""),
    Column("outcome", Text, nullable=False),
    Column("run_id", Text),
    *reason_pair(),
    Column("recorded_at", BigInteger, nullable=False),
    # Of a buffered fire: its earliest start (jitter, stagger), and which scheduler took it out of the queue to start it, and when.
    Column("start_after", BigInteger),
    Column("launched_at", BigInteger),
    Column("launched_by", Text),
    PrimaryKeyConstraint("job", "scheduled_for", "key"),
    Index("fires_by_key", "job", "key", unique=True, sqlite_where=text("key <> ''")),
    Index("fires_in_queue", "start_after", "scheduled_for", sqlite_where=text("outcome = 'buffered'")),
    Index("fires_missed", "recorded_at", "job", sqlite_where=text("outcome = 'missed'")),
    Index("fires_blocked", "scheduled_for", "job", sqlite_where=text("outcome IN ('blocked_budget', 'blocked_config')")),
)
"""One row for each fire. `buffered` is the queue: every other outcome is final."""

fire_gaps = Table(
    "fire_gaps",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, nullable=False),
    Column("from_at", BigInteger, nullable=False),
    Column("to_at", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    *reason_pair(),
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
    # The same by the boot clock: the wall clock may be set.
    Column("last_tick_boot", BigInteger),
    Column("lag_micros", BigInteger, nullable=False, server_default="0"),
    Column("jobs", Integer, nullable=False, server_default="0"),
    Column("broken", Text, nullable=False, server_default="[]"),
    Column("error", Text),
    Column("stopped_at", BigInteger),
    # Names of changed settings that it follows after a restart only.
    Column("restart", Text, nullable=False, server_default="[]"),
    Index("schedulers_by_tick", "last_tick_at"),
)
"""One row for each start of `taskpilot serve`; a recent `last_tick_boot` of the present boot means that it is awake."""

job_checks = Table(
    "job_checks",
    metadata,
    Column("job", Text, primary_key=True),
    Column("deadline_micros", BigInteger),
    Column("catch_up_micros", BigInteger),
    *reason_pair(),
    Column("checked_at", BigInteger, nullable=False),
)
"""One row for each job that the server knows: why it could not start, as checked at the server's start and after each change of a file."""

clock_events = Table(
    "clock_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("from_at", BigInteger, nullable=False),
    Column("to_at", BigInteger, nullable=False),
    Index("clock_events_by_end", "to_at"),
)
"""When no scheduler was awake, and when the clock was set; `why` shows them for a missed fire."""

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("run_id", Text),
    # Of a fire: its time and key. Of many (a gap): the last one's time, and how many they are.
    Column("scheduled_for", BigInteger),
    Column("fire_key", Text, nullable=False, server_default=""),
    Column("number", BigInteger, nullable=False, server_default="1"),
    # The id of the decision, task, step or pause.
    Column("subject", Text),
    *reason_pair(),
    sqlite_autoincrement=True,
)
"""Changes that a notice may be sent for, written in the transaction of the change; `id` only grows, so a reader can keep a cursor."""

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
    """The condition that a column has one of many values, as one parameter: SQLite allows too few for ten thousand."""
    return column.in_(select(func.json_each(json.dumps(list(values))).table_valued("value").c.value))


# With the module come its own tables: one metadata holds the whole schema.

HEAD: Final = "0005"
"""The revision of the newest migration; a store at another one is refused."""

_READ_BY_GOLDEN_SIGNALS: Final = ("ended_at", "status", "active_micros", "deadline_micros", "cost_nano", "unpriced_calls")
"""For queries over many runs that need not read the row of each run."""

store_info = Table(
    "store_info",
    metadata,
    Column("only", Integer, primary_key=True),
    Column("store_id", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job", Text, nullable=False),
    Column("status", Text, nullable=False),
    *reason_pair(),
    Column("trigger", Text, nullable=False),
    Column("scheduled_for", BigInteger),
    Column("previous_fire", BigInteger),
    Column("previous_success", BigInteger),
    Column("parameters", Text, nullable=False),
    Column("model", Text),
    Column("trace_id", Text, nullable=False),
    Column("root_span_id", Text, nullable=False),
    Column("traceparent", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("attempts_allowed", Integer, nullable=False),
    Column("active_micros", BigInteger, nullable=False, server_default="0"),
    Column("deadline_micros", BigInteger, nullable=False),
    Column("result", Text),
    Column("progress_done", BigInteger),
    Column("progress_total", BigInteger),
    Column("cancel_requested_at", BigInteger),
    # How long the process may take to end after it was asked: nothing where another fire of its job terminates it.
    Column("cancel_grace_micros", BigInteger),
    # Of a queued run without a lease: its earliest start, and which server took it out of the queue, and when.
    Column("start_after", BigInteger),
    Column("launched_at", BigInteger),
    Column("launched_by", Text),
    # The job is paused after so many runs in a row that ended badly.
    Column("pause_after_failures", Integer),
    # 1: what it asks a person is open until the job's next fire, which takes its place.
    Column("asks_until_fire", Integer, nullable=False, server_default="0"),
    # The lease: who may write to this run, and until when by the boot clock of the owner's boot, in microseconds.
    Column("lease_token", Text),
    Column("lease_expires_at", BigInteger),
    Column("owner", Text),
    # The budget: ceilings as in the job's file at the claim, what is settled, what calls in flight may still use.
    Column("ceiling_nano", BigInteger),
    Column("ceiling_tokens", BigInteger),
    Column("ceiling_llm_calls", BigInteger),
    Column("ceiling_tool_calls", BigInteger),
    Column("input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("cached_input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("cost_nano", BigInteger, nullable=False, server_default="0"),
    Column("unpriced_calls", BigInteger, nullable=False, server_default="0"),
    Column("llm_calls", BigInteger, nullable=False, server_default="0"),
    Column("tool_calls", BigInteger, nullable=False, server_default="0"),
    Column("spent_nano", BigInteger, nullable=False, server_default="0"),
    Column("spent_tokens", BigInteger, nullable=False, server_default="0"),
    Column("reserved_nano", BigInteger, nullable=False, server_default="0"),
    Column("reserved_tokens", BigInteger, nullable=False, server_default="0"),
    Index("runs_by_ending", text("substr(id, 29)")),
    Index("runs_by_job", "job", "id"),
    Index("runs_by_status", "status", "id"),
    Index("runs_of_job_by_status", "job", "status", "id"),
    Index("runs_by_end", *_READ_BY_GOLDEN_SIGNALS, sqlite_where=text("ended_at IS NOT NULL")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("status", Text, nullable=False),
    *reason_pair(),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("active_micros", BigInteger, nullable=False, server_default="0"),
    Column("file_digest", Text, nullable=False, server_default=""),
    Column("traces_written_at", BigInteger),
    # Its spans are to be sent to the collector, from this instant on. NULL: nothing is pending.
    Column("traces_due_at", BigInteger),
    UniqueConstraint("run_id", "number"),
    Index("attempts_by_traces", "traces_written_at"),
    Index("attempts_by_traces_due", "traces_due_at", sqlite_where=text("traces_due_at IS NOT NULL")),
)

steps = Table(
    "steps",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("scope", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("make", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("agent", Text),
    Column("model", Text),
    Column("input_digest", Text, nullable=False),
    Column("input", Text),
    Column("result", Text),
    Column("error", Text),
    Column("error_type", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("input_tokens", BigInteger),
    Column("cached_input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost_nano", BigInteger),
    Column("reserved_nano", BigInteger),
    Column("reserved_tokens", BigInteger, nullable=False, server_default="0"),
    Column("retries", Text),
    Column("diverged", Integer, nullable=False, server_default="0"),
    Column("decision_id", Text),
    Column("idempotent", Integer, nullable=False, server_default="1"),
    # The order of starts over all attempts: several steps may start in one microsecond.
    Column("position", Integer, nullable=False, server_default="0"),
    UniqueConstraint("run_id", "key", "make"),
    Index("steps_by_place", "run_id", "scope", "kind", "ordinal"),
)

agents = Table(
    "agent_invocations",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("scope", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("agent", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("run_id", "scope", "attempt"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("job", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("reopened", Integer, nullable=False, server_default="0"),
    # A person let the execution of this number repeat the effects of earlier ones.
    Column("repeats", Integer, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # Of one in review: when it is rejected without an answer, and when a person is to be warned of that (NULL: was, or need not be).
    Column("expires_at", BigInteger),
    Column("warn_at", BigInteger),
    Column("via", Text),
    Column("link_digest", Text),
    UniqueConstraint("run_id", "scope"),
    Index("tasks_expiring", "expires_at", sqlite_where=text("status = 'review'")),
    Index("tasks_by_ending", text("substr(id, 29)")),
    Index("tasks_by_status", "status", "id"),
    Index("tasks_by_job", "job", "id"),
    Index("tasks_of_job_by_status", "job", "status", "id"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("job", Text, nullable=False),
    Column("step_key", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("decided_at", BigInteger, nullable=False),
    Column("evaluation_nanoseconds", BigInteger, nullable=False, server_default="0"),
    Column("settled_by", Text),
    Column("settled_at", BigInteger),
    Column("note", Text),
    # Of a question to a person: the same as of a task.
    Column("expires_at", BigInteger),
    Column("warn_at", BigInteger),
    Column("via", Text),
    Column("grant_id", Text),
    Column("link_digest", Text),
    Index("decisions_expiring", "expires_at", sqlite_where=text("status = 'pending'")),
    Index("decisions_by_run", "run_id", "step_key"),
    Index("decisions_by_ending", text("substr(id, 29)")),
    Index("decisions_by_status", "status", "id"),
    Index("decisions_by_job", "job", "id"),
    Index("decisions_by_verdict", "verdict", "id"),
    Index("decisions_by_time", "decided_at", "verdict"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("verdict", Text, nullable=False),
    Column("given_by", Text, nullable=False),
    Column("given_at", BigInteger, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Index("feedback_by_time", "given_at", "verdict"),
)
"""The newest rating of each run. The totals count every rating."""

totals = Table(
    "totals",
    metadata,
    Column("job", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("value", BigInteger, nullable=False),
    PrimaryKeyConstraint("job", "metric", "labels"),
)
"""Counters, and for histograms one row for each bucket (`<name>_bucket`, not cumulative), `<name>_sum` and `<name>_count`."""

job_state = Table(
    "job_state",
    metadata,
    Column("job", Text, primary_key=True),
    Column("last_scheduled", BigInteger),
    Column("last_start", BigInteger),
    Column("last_completion", BigInteger),
    Column("last_success", BigInteger),
    Column("last_duration_micros", BigInteger),
    Column("last_status", Text),
    Column("last_exit_code", Integer),
    Column("last_cost_nano", BigInteger),
    Column("last_input_tokens", BigInteger),
    Column("last_cached_input_tokens", BigInteger),
    Column("last_output_tokens", BigInteger),
    Column("last_budget_used_micros", BigInteger),
    # The gateway's group is pending while `version` is newer than `pushed_version`, or a time-out is younger than 30 s.
    Column("version", BigInteger, nullable=False, server_default="0"),
    Column("pushed_version", BigInteger, nullable=False, server_default="0"),
    Column("push_timed_out_at", BigInteger),
    Column("push_error", Text),
)

run_days = Table(
    "run_days",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("succeeded", BigInteger, nullable=False),
    Column("ended", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    # Of runs that did not succeed.
    Column("wasted_nano", BigInteger, nullable=False),
    Column("unpriced_calls", BigInteger, nullable=False),
)
"""The runs that ended on a UTC day (days since 1970), without cancelled ones. Triggers keep this table and the two after it."""

run_day_durations = Table(
    "run_day_durations",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    # active: active microseconds; share: as a part of the deadline.
    Column("measure", Text, primary_key=True),
    # To two digits.
    Column("rounded", Float, primary_key=True),
    Column("runs", BigInteger, nullable=False),
)

decision_days = Table(
    "decision_days",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("decided", BigInteger, nullable=False),
    Column("denied", BigInteger, nullable=False),
)
