"""Executes the statements of every run and step without SQLAlchemy's own work, which takes ten times as long as SQLite's."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import Connection, Insert, Select, Update
from sqlalchemy.dialects import sqlite

Statement: TypeAlias = Insert | Update | Select[Any]
"""A constant of a module: it is compiled once for each set of names."""


def execute(connection: Connection, statement: Insert | Update, values: Mapping[str, Any]) -> int:
    """As `Connection.execute` with these values, which SQLite takes as they are; gives the number of rows. Raises sqlite3.Error."""
    text, names, known = _compiled(statement, tuple(values))
    count: int = _raw(connection).execute(text, _in_order(names, {**known, **values})).rowcount
    return count


def execute_many(connection: Connection, statement: Insert | Update, rows: Sequence[Mapping[str, Any]]) -> None:
    """The same for each of several rows, all with the same names."""
    text, names, known = _compiled(statement, tuple(rows[0]))
    _raw(connection).executemany(text, [_in_order(names, {**known, **row}) for row in rows])


def first(connection: Connection, statement: Select[Any], values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The first row of a query; None where it has none."""
    text, names, known = _compiled(statement, tuple(values))
    row: tuple[Any, ...] | None = _raw(connection).execute(text, _in_order(names, {**known, **values})).fetchone()
    return row


def rows_changed(connection: Connection) -> int:
    """How many rows this connection inserted, updated or deleted so far, undone ones included."""
    count: int = _raw(connection).total_changes
    return count


def _raw(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def _in_order(names: Sequence[str], values: Mapping[str, Any]) -> list[Any]:
    return [values[name] for name in names]


@cache
def _compiled(statement: Statement, names: tuple[str, ...]) -> tuple[str, tuple[str, ...], Mapping[str, Any]]:
    """The text, the names of its parameters in their order, and the values of those that the statement holds itself."""
    compiled = statement.compile(dialect=sqlite.dialect(), column_keys=list(names))
    return str(compiled), tuple(compiled.positiontup or ()), compiled.params
