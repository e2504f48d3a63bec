"""What a scheduler needs (schedules with cursors, gaps, pauses, schedulers, clock events, the queue), the audit of the API, feedback, and
the spans that are pending to a collector.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds tables and columns; no row is changed."""
    for column in ("start_after", "launched_at"):
        op.add_column("fires", sa.Column(column, sa.BigInteger(), nullable=True))
        op.add_column("runs", sa.Column(column, sa.BigInteger(), nullable=True))
    for table in ("fires", "runs"):
        op.add_column(table, sa.Column("launched_by", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("cancel_grace_micros", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("pause_after_failures", sa.Integer(), nullable=True))
    op.create_index("fires_in_queue", "fires", ["start_after", "scheduled_for"], sqlite_where=sa.text("outcome = 'buffered'"))
    op.create_index("fires_missed", "fires", ["recorded_at", "job"], sqlite_where=sa.text("outcome = 'missed'"))
    op.create_index("tasks_of_job_by_status", "tasks", ["job", "status", "id"])
    op.create_index("decisions_by_verdict", "decisions", ["verdict", "id"])
    op.add_column("attempts", sa.Column("traces_due_at", sa.BigInteger(), nullable=True))
    op.create_index("attempts_by_traces_due", "attempts", ["traces_due_at"], sqlite_where=sa.text("traces_due_at IS NOT NULL"))
    op.create_index("decisions_by_time", "decisions", ["decided_at", "verdict"])
    read = ["ended_at", "status", "active_micros", "deadline_micros", "cost_nano", "unpriced_calls"]
    op.create_index("runs_by_end", "runs", read, sqlite_where=sa.text("ended_at IS NOT NULL"))
    _schedules()
    _schedulers()
    op.create_table(
        "feedback",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_index("feedback_by_time", "feedback", ["given_at", "verdict"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _schedules() -> None:
    op.create_table(
        "fire_gaps",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("fire_gaps_by_job", "fire_gaps", ["job", "to_at"])
    op.create_index("fire_gaps_by_record", "fire_gaps", ["recorded_at"])
    op.create_table(
        "schedules",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job"),
    )
    op.create_table(
        "past_schedules",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job", "since"),
    )
    op.create_table(
        "pauses",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=False),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("resumed_at", sa.BigInteger(), nullable=True),
        sa.Column("resumed_by", sa.Text(), nullable=True),
        sa.Column("resume_note", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("pauses_by_job", "pauses", ["job", "paused_at"])
    op.create_index("pauses_in_force", "pauses", ["job"], unique=True, sqlite_where=sa.text("resumed_at IS NULL"))


def _schedulers() -> None:
    op.create_table(
        "schedulers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("last_tick_at", sa.BigInteger(), nullable=False),
        sa.Column("lag_micros", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("jobs", sa.Integer(), server_default="0", nullable=False),
        sa.Column("broken", sa.Text(), server_default="[]", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("schedulers_by_tick", "schedulers", ["last_tick_at"])
    op.create_table(
        "clock_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("clock_events_by_end", "clock_events", ["to_at"])
