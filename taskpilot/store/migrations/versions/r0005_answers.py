"""Incidents and notices; approvals that expire, with their links and standing grants."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds tables, columns and an index; a question that is open gets a time."""
    _create_notices()
    _add_approvals()
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


def _add_approvals() -> None:
    op.add_column("runs", sa.Column("asks_until_fire", sa.Integer(), nullable=False, server_default="0"))
    for table, more in (("decisions", ("via", "grant_id", "link_digest")), ("tasks", ("via", "link_digest"))):
        for name in ("expires_at", "warn_at"):
            op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=True))
        for name in more:
            op.add_column(table, sa.Column(name, sa.Text(), nullable=True))
    for table, status in (("decisions", "pending"), ("tasks", "review")):
        asked = f"status = '{status}'"
        op.create_index(f"{table}_expiring", table, ["expires_at"], sqlite_where=sa.text(asked))
        # What is open at the upgrade is open for a day from now on; its warning comes after three quarters of it.
        now = "CAST(strftime('%s', 'now') AS INTEGER)"
        op.execute(
            f"UPDATE {table} SET expires_at = ({now} + 86400) * 1000000, warn_at = ({now} + 64800) * 1000000 WHERE {asked}"  # noqa: S608
        )
    op.create_table(
        "grants",
        sa.Column("id", sa.Text(), primary_key=True, nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=True),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.Column("uses_max", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("granted_by", sa.Text(), nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False, server_default=""),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
    )
    op.create_index("grants_by_tool", "grants", ["job", "tool"])
    op.create_index("grants_by_ending", "grants", [sa.text("substr(id, 29)")])
    op.create_table(
        "link_key",
        sa.Column("only", sa.Integer(), primary_key=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
    )
    op.execute("INSERT INTO link_key (only, key) VALUES (1, lower(hex(randomblob(32))))")
