"""The events table: changes that a notice may be sent for, written in the transaction of the change."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from taskpilot.domain.events import EventKind
from taskpilot.domain.reasons import NO_REASON, Reason
from taskpilot.domain.times import to_micros
from taskpilot.store import prepared
from taskpilot.store.records import reason_columns
from taskpilot.store.tables import events

# Built once: SQLAlchemy takes longer to build a statement than SQLite to run it.
_INSERT: Final = insert(events)


def record_event(
    connection: Connection,
    kind: EventKind,
    job: str,
    *,
    at: datetime,
    run_id: str | None = None,
    fire: datetime | None = None,
    key: str = "",
    number: int = 1,
    subject: str | None = None,
    reason: Reason = NO_REASON,
) -> None:
    """Records an event. `number`: how many fires it is about; `subject`: the id of the decision, task, step or pause."""
    row = {
        "at": to_micros(at),
        "kind": kind.value,
        "job": job,
        "run_id": run_id,
        "scheduled_for": None if fire is None else to_micros(fire),
        "fire_key": key,
        "number": number,
        "subject": subject,
    }
    prepared.execute(connection, _INSERT, row | reason_columns(reason))


def prune_events(connection: Connection, before: datetime, *, limit: int) -> int:
    """Deletes at most `limit` of the oldest events that are older than an instant; gives how many."""
    limit_at = to_micros(before)
    oldest = connection.execute(select(events.c.id, events.c.at).order_by(events.c.id).limit(limit))
    old = [row.id for row in oldest if row.at < limit_at]
    if old:
        connection.execute(delete(events).where(events.c.id <= max(old), events.c.at < limit_at))
    return len(old)
