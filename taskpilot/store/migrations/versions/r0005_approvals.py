"""Approvals that expire, and their links and grants."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds columns, tables and indexes."""
    _add_approvals()


def _add_approvals() -> None:
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
