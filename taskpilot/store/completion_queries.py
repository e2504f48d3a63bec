"""The newest ids of a store, for shell completion: read-only, and without waiting for a lock."""

import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

FILE: Final = "taskpilot.db"
"""The same as `connections.FILE`, which takes too long to import; a test compares the two."""
SECONDS: Final = 0.3
"""A person who pressed Tab should not wait longer."""
_SHOWN: Final = 50
_STEPS_BETWEEN_CHECKS: Final = 10_000
"""SQLite's instructions between two checks of the time: well under a millisecond."""
_NEWEST: Final = {
    "run": ("runs", "status", "job"),
    "task": ("tasks", "status", "title"),
    "decision": ("decisions", "status", "tool"),
    "incident": ("incidents", "iif(closed_at IS NULL, 'open', 'closed')", "job || ' ' || cause"),
}
"""By noun: its table, its state, and its name."""
_QUERY: Final = """
    SELECT id, {state} AS state, {name} FROM {table}
    WHERE (substr(id, 29) >= :begin AND substr(id, 29) < :begin || 'g' OR id >= :begin AND id < :begin || 'g')
      AND (:any OR state IN (SELECT value FROM json_each(:statuses))) ORDER BY id DESC LIMIT :limit"""
"""An id is hexadecimal, so that g sorts after all ids with the same beginning. What is typed is the beginning of the id or of its end."""


def newest_ids(state_dir: Path, noun: str, *, begin: str = "", statuses: Sequence[str] = ()) -> list[tuple[str, str, str]]:
    """Id, state and name of the newest runs, tasks, decisions or incidents whose id, or its last 8 characters, begin so.

    In some states, or in all. Empty where there is no store, or where it does not answer in time. `noun`: a key of `_NEWEST`.
    """
    table, state, name = _NEWEST[noun]
    query = _QUERY.format(table=table, state=state, name=name)
    path = state_dir / FILE
    try:
        # SQLAlchemy would take longer to load than the whole answer may take.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=SECONDS)) as connection:
            end = time.monotonic() + SECONDS
            connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_CHECKS)
            values = {"begin": begin, "any": not statuses, "statuses": json.dumps(list(statuses)), "limit": _SHOWN}
            return [(str(row[0]), str(row[1]), str(row[2])) for row in connection.execute(query, values)]
    except sqlite3.Error:
        return []
