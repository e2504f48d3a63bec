"""The tables of standing grants and of the key of links."""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from taskpilot.store.tables import metadata

grants = Table(
    "grants",
    metadata,
    Column("id", Text, primary_key=True),
    # The decision that it was given with, and the first that used it.
    Column("decision_id", Text, nullable=False),
    Column("job", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    # A JSON schema of the arguments; NULL: exactly these.
    Column("schema", Text),
    Column("until_at", BigInteger, nullable=False),
    Column("uses_max", Integer, nullable=False),
    Column("uses", Integer, nullable=False, server_default="0"),
    Column("granted_by", Text, nullable=False),
    Column("granted_at", BigInteger, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("revoked_by", Text),
    Column("revoked_at", BigInteger),
    Index("grants_by_tool", "job", "tool"),
    Index("grants_by_ending", text("substr(id, 29)")),
)
"""One row for each standing grant: so many calls of a tool, until an instant, without asking again."""

link_key = Table(
    "link_key",
    metadata,
    Column("only", Integer, primary_key=True),
    Column("key", Text, nullable=False),
)
"""The key that signs the links of notices; no output shows it."""
