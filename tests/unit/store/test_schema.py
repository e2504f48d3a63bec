"""The migrations and the tables say the same."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, text

from taskpilot.store import database, tables
from taskpilot.store.database import Store


def difference(connection: Connection, metadata: MetaData) -> Any:
    options = {"compare_type": True, "compare_server_default": True}
    return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def test_a_migrated_store_has_exactly_the_tables_of_the_metadata(store: Store) -> None:
    with store.read() as connection:
        assert difference(connection, tables.metadata) == []


def test_the_comparison_sees_a_column_that_is_missing(store: Store) -> None:
    with store.write() as connection:
        connection.execute(text("ALTER TABLE job_state DROP COLUMN push_error"))
    with store.read() as connection:
        assert [change[0] for change in difference(connection, tables.metadata)] == ["add_column"]


def test_what_the_comparison_does_not_look_at_is_the_same_too(store: Store) -> None:
    """Check constraints, partial indexes and their columns: the text that SQLite keeps of each."""

    def made(connection: Connection) -> dict[str, str]:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"))
        return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows}

    from sqlalchemy import create_engine

    fresh = create_engine("sqlite://")
    with fresh.connect() as connection:
        tables.metadata.create_all(connection)
        wanted = made(connection)
    fresh.dispose()
    with store.read() as connection:
        assert made(connection) == wanted


def test_the_newest_migration_is_the_one_that_the_program_wants() -> None:
    script = ScriptDirectory(str(database.Path(database.__file__).parent / "migrations"))
    assert script.get_heads() == [tables.HEAD]
