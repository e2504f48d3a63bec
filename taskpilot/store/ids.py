"""Finds the record that a person means: by its whole id, by the end of the id, or as the newest one."""

import re
from typing import Final

from sqlalchemy import Connection, Table, literal_column, select

from taskpilot.domain.errors import NotFound, UsageError
from taskpilot.domain.ids import SHORT, parse_id
from taskpilot.store.approval_tables import grants
from taskpilot.store.notice_tables import incidents, notices
from taskpilot.store.tables import decisions, runs, steps, tasks

_TABLES: Final[dict[str, Table]] = {
    "run": runs,
    "task": tasks,
    "decision": decisions,
    "step": steps,
    "incident": incidents,
    "notice": notices,
    "grant": grants,
}
_NEWEST: Final = re.compile(r"(?:([a-z][a-z0-9_]{0,62}):)?last", re.ASCII)
_ENDING: Final = re.compile(rf"[0-9a-f]{{{SHORT},31}}", re.ASCII)
_END: Final = 37 - SHORT
"""The position, from 1, of the last characters of an id."""
_CANDIDATES: Final = 10


def find_id(connection: Connection, text: str, *, noun: str = "run", of_run: str | None = None) -> str:
    """The id of the record that a text names: a whole id, its last 8 characters or more, `last` or `JOB:last`.

    A whole id is not looked up. `of_run` limits the search to one run. Raises UsageError where the text is none of these or fits
    several records, and NotFound where it fits none.
    """
    hint = f"taskpilot runs show {of_run}" if of_run else f"taskpilot {'decisions grants' if noun == 'grant' else f'{noun}s'} list"
    if (newest := _NEWEST.fullmatch(text)) and noun != "step":
        return _newest(connection, noun, newest[1], of_run=of_run)
    ending = text.lower().replace("-", "")
    if not _ENDING.fullmatch(ending):
        return _whole(text, noun, hint)
    table = _TABLES[noun]
    # As a literal: with a parameter, SQLite would not use the index on this expression.
    wanted = select(table.c.id).where(literal_column(f"substr({table.name}.id, {_END})") == ending[-SHORT:])
    if of_run is not None:
        wanted = wanted.where(table.c.run_id == of_run)
    fitting = [one for one in connection.execute(wanted.order_by(table.c.id.desc())).scalars() if one.replace("-", "").endswith(ending)]
    if not fitting:
        raise NotFound(f"there is no {noun} whose id ends with {text}", hint=hint)
    if len(fitting) > 1:
        more = f" and {len(fitting) - _CANDIDATES} more" if len(fitting) > _CANDIDATES else ""
        raise UsageError(f"{len(fitting)} {noun}s have an id that ends with {text}: {', '.join(fitting[:_CANDIDATES])}{more}", hint=hint)
    return str(fitting[0])


def _newest(connection: Connection, noun: str, job: str | None, *, of_run: str | None) -> str:
    table = _TABLES[noun]
    wanted = select(table.c.id).order_by(table.c.id.desc()).limit(1)
    if job is not None:
        wanted = wanted.where(table.c.job == job)
    if of_run is not None:
        wanted = wanted.where(table.c.run_id == of_run)
    found = connection.execute(wanted).scalar()
    if found is None:
        raise NotFound(f"there is no {noun} of {job}" if job else f"there is no {noun} yet", hint="taskpilot jobs")
    return str(found)


def _whole(text: str, noun: str, hint: str) -> str:
    try:
        return parse_id(text, noun=noun)
    except UsageError as error:
        example = "" if noun == "step" else "; `last` is the newest one"
        raise UsageError(f"{error}; give its last {SHORT} characters or more{example}", hint=hint) from None
