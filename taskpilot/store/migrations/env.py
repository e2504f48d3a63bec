"""Alembic's entry: migrates on the connection and in the transaction that the store hands in."""

from alembic import context

from taskpilot.store import tables as _tables  # noqa: F401  with it comes the whole schema
from taskpilot.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False, transactional_ddl=False)
context.run_migrations()
