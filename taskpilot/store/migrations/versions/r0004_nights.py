"""Whether each job could start, as `taskpilot serve` found it at its start and after each change; ids by their last 8 characters."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds tables, columns and indexes; no row is changed."""
    op.create_table(
        "job_checks",
        sa.Column("job", sa.Text(), primary_key=True, nullable=False),
        sa.Column("deadline_micros", sa.BigInteger(), nullable=True),
        sa.Column("catch_up_micros", sa.BigInteger(), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=False, server_default=""),
        sa.Column("reason_facts", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
    )
    op.add_column("schedulers", sa.Column("restart", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("tasks", sa.Column("repeats", sa.Integer(), nullable=False, server_default="0"))
    # A lease that an earlier version granted counts by the wall clock: it holds until its process is gone, or another boot.
    op.add_column("schedulers", sa.Column("last_tick_boot", sa.BigInteger(), nullable=True))
    for table in ("runs", "tasks", "decisions"):
        op.create_index(f"{table}_by_ending", table, [sa.text("substr(id, 29)")])
