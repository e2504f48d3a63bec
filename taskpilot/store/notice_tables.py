"""The tables of incidents and notices."""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from taskpilot.store.tables import metadata, reason_pair

incidents = Table(
    "incidents",
    metadata,
    Column("id", Text, primary_key=True),
    # Empty: about no job.
    Column("job", Text, nullable=False),
    Column("cause", Text, nullable=False),
    # The run that asks a person; empty for the other causes.
    Column("subject", Text, nullable=False, server_default=""),
    Column("opened_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("events", Integer, nullable=False, server_default="1"),
    Column("notices", Integer, nullable=False, server_default="0"),
    Column("told_at", BigInteger),
    Column("closed_at", BigInteger),
    Column("acknowledged_at", BigInteger),
    Column("acknowledged_by", Text),
    Column("note", Text, nullable=False, server_default=""),
    Column("run_id", Text),
    Column("fire", BigInteger),
    *reason_pair(),
    Index("incidents_open", "job", "cause", "subject", unique=True, sqlite_where=text("closed_at IS NULL")),
    Index("incidents_by_ending", text("substr(id, 29)")),
)
"""One row for each time that something was wrong with a job; of one job, cause and subject at most one is open."""

notices = Table(
    "notices",
    metadata,
    # The order in which a channel gets them.
    Column("position", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("incident_id", Text),
    Column("event", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("job", Text, nullable=False, server_default=""),
    Column("run_id", Text),
    Column("facts", Text, nullable=False, server_default="{}"),
    Column("created_at", BigInteger, nullable=False),
    Column("held_until", BigInteger),
    # NULL: nothing is left to do.
    Column("due_at", BigInteger),
    Column("result", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("delivered_at", BigInteger),
    Column("error", Text),
    Index("notices_due", "channel", "position", sqlite_where=text("due_at IS NOT NULL")),
    Index("notices_of_incident", "incident_id", "channel"),
    Index("notices_by_ending", text("substr(id, 29)")),
    sqlite_autoincrement=True,
)
"""One row for each message and channel; written with the incident, so that a kill loses none. A delivered ping is deleted."""

notice_state = Table(
    "notice_state",
    metadata,
    Column("only", Integer, primary_key=True),
    # The last row of `events` that incidents were made of.
    Column("cursor", BigInteger, nullable=False),
    # The time for which the last report was written.
    Column("reported_at", BigInteger),
    # The process that sends, until when by the boot clock of its boot.
    Column("lease_token", Text),
    Column("lease_owner", Text),
    Column("lease_expires_at", BigInteger),
)
