"""Incidents and notices."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds tables and an index; no row is changed."""
    _create_notices()
    blocked = sa.text("outcome IN ('blocked_budget', 'blocked_config')")
    op.create_index("fires_blocked", "fires", ["scheduled_for", "job"], sqlite_where=blocked)


def _create_notices() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", sa.Text(), primary_key=True, nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, server_default=""),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("notices", sa.Integer(), nullable=False, server_default="0"),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("told_at", "closed_at", "acknowledged_at")),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False, server_default=""),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("fire", sa.BigInteger(), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=False, server_default=""),
        sa.Column("reason_facts", sa.Text(), nullable=False, server_default="{}"),
    )
    op.create_index("incidents_open", "incidents", ["job", "cause", "subject"], unique=True, sqlite_where=sa.text("closed_at IS NULL"))
    op.create_table(
        "notices",
        sa.Column("position", sa.Integer(), primary_key=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False, unique=True),
        sa.Column("incident_id", sa.Text(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False, server_default=""),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("facts", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("held_until", "due_at")),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("notices_due", "notices", ["channel", "position"], sqlite_where=sa.text("due_at IS NOT NULL"))
    op.create_index("notices_of_incident", "notices", ["incident_id", "channel"])
    for table in ("incidents", "notices"):
        op.create_index(f"{table}_by_ending", table, [sa.text("substr(id, 29)")])
    op.create_table(
        "notice_state",
        sa.Column("only", sa.Integer(), primary_key=True, nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("reported_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.BigInteger(), nullable=True),
    )
    # What happened before this version is told to nobody.
    op.execute("INSERT INTO notice_state (only, cursor) SELECT 1, COALESCE(MAX(id), 0) FROM events")
