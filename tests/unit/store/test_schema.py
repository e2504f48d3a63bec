"""The migrations and the tables say the same."""

import re
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine, text

from taskpilot.store import (
    approval_tables,  # noqa: F401 - its tables are in the metadata too
    connections,
    notice_tables,  # noqa: F401 - its tables are in the metadata too
    tables,
)
from taskpilot.store.database import Store

# The last test here compares them: neither library can read an index on an expression back.
pytestmark = [
    pytest.mark.real_creation,
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
]


def difference(connection: Connection, metadata: MetaData) -> Any:
    # Not the defaults: Alembic takes an empty text for none. The last test here sees them.
    return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)


def made(connection: Connection) -> dict[str, list[str]]:
    """What SQLite keeps of each table and index, by its clauses: their order does not matter."""
    rows = connection.execute(
        text("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL AND name <> 'alembic_version'")
    )
    return {name: sorted(" ".join(clause.split()) for clause in re.split(r"[,()]", sql.replace('"', ""))) for name, sql in rows}


def test_a_migrated_store_has_exactly_the_tables_of_the_metadata(store: Store) -> None:
    with store.read() as connection:
        assert difference(connection, tables.metadata) == []


def test_the_comparison_sees_a_column_that_is_missing(store: Store) -> None:
    with store.write() as connection:
        connection.execute(text("ALTER TABLE job_state DROP COLUMN push_error"))
    with store.read() as connection:
        assert [change[0] for change in difference(connection, tables.metadata)] == ["add_column"]


def test_the_migrations_make_what_the_metadata_makes_defaults_and_partial_indexes_included(store: Store) -> None:
    fresh = create_engine("sqlite://")
    with fresh.connect() as connection:
        tables.metadata.create_all(connection)
        wanted = made(connection)
    fresh.dispose()
    with store.read() as connection:
        assert made(connection) == wanted
    assert len(wanted) > len(tables.metadata.tables)


def test_the_newest_migration_is_the_one_that_the_program_wants() -> None:
    script = ScriptDirectory(str(Path(connections.__file__).parent / "migrations"))
    assert script.get_heads() == [tables.HEAD]
