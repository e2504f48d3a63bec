"""Queries over incidents and notices: what is open, what is to be sent, and which process sends."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Row, delete, exists, func, insert, select, union_all, update

from taskpilot.domain.ids import new_id, smallest_id
from taskpilot.domain.notices import Incident, Notice, NoticeEvent, NoticeResult
from taskpilot.domain.reasons import Reason
from taskpilot.domain.runs import Owner
from taskpilot.domain.text import storable
from taskpilot.domain.times import BootTime, from_micros, to_micros
from taskpilot.store.notice_tables import incidents, notice_state, notices
from taskpilot.store.records import dumps, loads, moment, owner_of, reason_columns, reason_of

BATCH: Final = 100
"""Notices of the quiet hours that one digest holds."""
_WAIT_MAX: Final = timedelta(hours=1)
_HELD_MAX: Final = timedelta(days=2)
"""Longer than a notice waits for its next try, and for the end of the quiet hours."""
_OPEN: Final = incidents.c.closed_at.is_(None)
_DUE: Final = notices.c.due_at.is_not(None)


@dataclass(frozen=True, slots=True)
class NoticeState:
    """How far the events are read, and for when the last report was written."""

    cursor: int
    reported_at: datetime | None


def notice_state_of(connection: Connection) -> NoticeState:
    """The one row."""
    row = connection.execute(select(notice_state)).one()
    return NoticeState(row.cursor, moment(row.reported_at))


def set_cursor(connection: Connection, event_id: int) -> None:
    """Incidents were made of the events up to this one."""
    connection.execute(update(notice_state).values(cursor=event_id))


def set_reported(connection: Connection, at: datetime) -> None:
    """The report for this time was written, or was not wanted."""
    connection.execute(update(notice_state).values(reported_at=to_micros(at)))


def open_incidents(connection: Connection, job: str | None = None, causes: Collection[NoticeEvent] | None = None) -> list[Incident]:
    """The open incidents, of a job or of all, the oldest first."""
    wanted = select(incidents).where(_OPEN)
    if job is not None:
        wanted = wanted.where(incidents.c.job == job)
    if causes is not None:
        wanted = wanted.where(incidents.c.cause.in_(sorted(causes)))
    return [incident_of(row) for row in connection.execute(wanted.order_by(incidents.c.id))]


def get_incident(connection: Connection, incident_id: str) -> Incident | None:
    """One incident."""
    row = connection.execute(select(incidents).where(incidents.c.id == incident_id)).first()
    return None if row is None else incident_of(row)


def insert_incident(
    connection: Connection,
    cause: NoticeEvent,
    *,
    at: datetime,
    job: str = "",
    subject: str = "",
    run_id: str | None = None,
    fire: datetime | None = None,
    reason: Reason,
    events: int = 1,
) -> Incident:
    """Opens an incident. The index allows one open one for each job, cause and subject."""
    row = {
        "id": new_id(),
        "job": job,
        "cause": cause,
        "subject": subject,
        "opened_at": to_micros(at),
        "last_at": to_micros(at),
        "events": events,
        "run_id": run_id,
        "fire": None if fire is None else to_micros(fire),
        **reason_columns(reason),
    }
    connection.execute(insert(incidents).values(**row))
    found = get_incident(connection, str(row["id"]))
    assert found is not None
    return found


def update_incident(connection: Connection, incident_id: str, **values: Any) -> None:
    """Sets columns; instants as datetimes, a `reason` as such."""
    columns: dict[str, Any] = {name: to_micros(value) if isinstance(value, datetime) else value for name, value in values.items()}
    if isinstance(reason := columns.pop("reason", None), Reason):
        columns |= reason_columns(reason)
    connection.execute(update(incidents).where(incidents.c.id == incident_id).values(**columns))


def insert_notice(
    connection: Connection,
    event: NoticeEvent,
    channel: str,
    *,
    notice_id: str,
    at: datetime,
    incident: Incident | None = None,
    job: str = "",
    run_id: str | None = None,
    facts: Mapping[str, Any],
    held_until: datetime | None = None,
) -> None:
    """Writes a notice that is to be sent."""
    row = {
        "id": notice_id,
        "incident_id": None if incident is None else incident.id,
        "event": event,
        "channel": channel,
        "job": job,
        "run_id": run_id,
        "facts": dumps(dict(facts)),
        "created_at": to_micros(at),
        "held_until": None if held_until is None else to_micros(held_until),
        "due_at": to_micros(at),
        "result": NoticeResult.PENDING,
    }
    connection.execute(insert(notices).values(**row))


def channels_told(connection: Connection, incident_id: str) -> list[str]:
    """The channels that an incident was told to, or will be."""
    wanted = select(notices.c.channel).where(notices.c.incident_id == incident_id).group_by(notices.c.channel)
    return list(connection.execute(wanted.order_by(func.min(notices.c.position))).scalars())


def has_waiting_notice(connection: Connection, incident_id: str) -> bool:
    """Whether a notice of the incident is still to be sent."""
    return bool(connection.execute(select(exists().where(notices.c.incident_id == incident_id, _DUE))).scalar())


def _ripe(column: Column[int], now: datetime, longest: timedelta) -> ColumnElement[bool]:
    """Whether an instant is over; one that lies too far ahead was written while the clock was wrong."""
    return (column <= to_micros(now)) | (column > to_micros(now + longest))


def _not_held(now: datetime) -> ColumnElement[bool]:
    return notices.c.held_until.is_(None) | _ripe(notices.c.held_until, now, _HELD_MAX)


def channels_due(connection: Connection, now: datetime) -> list[str]:
    """The channels that have a notice to be sent now, those first that wait longest."""
    ripe = _DUE & _ripe(notices.c.due_at, now, _WAIT_MAX) & _not_held(now)
    wanted = select(notices.c.channel).where(ripe).group_by(notices.c.channel).order_by(func.min(notices.c.position))
    return list(connection.execute(wanted).scalars())


def take_lease(
    connection: Connection, token: str, owner: Owner, *, boot: BootTime, until: BootTime, is_gone: Callable[[Owner], bool]
) -> Owner | None:
    """Makes a process the one that sends; where another one is, gives that one."""
    row = connection.execute(select(notice_state)).one()
    holder = owner_of(row.lease_owner)
    if row.lease_token not in (None, token) and holder is not None:
        # The clock of another boot says nothing.
        over = holder.boot_id == boot.boot_id and row.lease_expires_at <= boot.micros
        if not over and not is_gone(holder):
            return holder
    held = {"host": owner.host, "boot_id": owner.boot_id, "pid": owner.pid, "process_start": owner.process_start}
    connection.execute(update(notice_state).values(lease_token=token, lease_owner=dumps(held), lease_expires_at=until.micros))
    return None


def release_lease(connection: Connection, token: str) -> None:
    """Lets another process send."""
    free = {"lease_token": None, "lease_owner": None, "lease_expires_at": None}
    connection.execute(update(notice_state).where(notice_state.c.lease_token == token).values(**free))


def begin_sending(connection: Connection, channel: str, token: str, *, now: datetime, until: BootTime, digest: bool) -> tuple[Notice, ...]:
    """The next notice of a channel, which counts as unknown from here on until its result is recorded; none where none is due.

    With `digest` it may be several: those of the quiet hours, which are sent as one message. A channel gets its notices in their order: one
    that waits to be tried again holds up those behind it, one that is held for the quiet hours does not. Extends the sender's lease; none
    where that was lost.
    """
    kept = connection.execute(update(notice_state).where(notice_state.c.lease_token == token).values(lease_expires_at=until.micros))
    if kept.rowcount != 1:
        return ()
    ready = _ripe(notices.c.due_at, now, _WAIT_MAX).label("ready")
    wanted = (
        select(notices, ready)
        .where(notices.c.channel == channel, _DUE, _not_held(now))
        .order_by(notices.c.position)
        .limit(BATCH if digest else 1)
    )
    rows = list(connection.execute(wanted))
    if not rows or not rows[0].ready:
        return ()
    if rows[0].held_until is None:
        rows = rows[:1]
    found: list[Notice] = []
    for row in rows:
        if found and (row.held_until is None or not row.ready):
            break
        found.append(notice_of(row))
    begun = {"attempts": notices.c.attempts + 1, "result": NoticeResult.UNKNOWN}
    connection.execute(update(notices).where(notices.c.id.in_([one.id for one in found])).values(**begun))
    return tuple(found)


def hurry(connection: Connection, channels: Collection[str], now: datetime) -> None:
    """Lets what waits to be tried again on these channels be tried now."""
    at = to_micros(now)
    connection.execute(update(notices).where(notices.c.channel.in_(list(channels)), _DUE, notices.c.due_at > at).values(due_at=at))


def end_sending(
    connection: Connection,
    ids: Sequence[str],
    result: NoticeResult,
    *,
    now: datetime,
    again_at: datetime | None = None,
    error: str | None = None,
) -> int:
    """Records what became of notices; one whose delivery is recorded already keeps that. Gives how many were changed."""
    values: dict[str, Any] = {
        "result": result,
        "due_at": None if again_at is None else to_micros(again_at),
        "error": None if error is None else storable(error),
    }
    if result is NoticeResult.DELIVERED:
        values["delivered_at"] = to_micros(now)
    return connection.execute(update(notices).where(notices.c.id.in_(ids), _DUE).values(**values)).rowcount


def forget_notices(connection: Connection, ids: Sequence[str]) -> None:
    """Deletes delivered pings."""
    connection.execute(delete(notices).where(notices.c.id.in_(ids)))


@dataclass(frozen=True, slots=True)
class FailingChannel:
    """A channel with notices that were tried and not delivered."""

    channel: str
    notices: int
    since: datetime
    error: str


def failing_channels(connection: Connection, since: datetime) -> list[FailingChannel]:
    """The channels with notices that were tried and are to be tried again, or that were given up since an instant."""
    tried = (notices.c.attempts > 0) & notices.c.result.in_([NoticeResult.FAILED, NoticeResult.UNKNOWN])
    again = select(notices.c.channel, notices.c.created_at, notices.c.error).where(_DUE, tried)
    given_up = select(notices.c.channel, notices.c.created_at, notices.c.error)
    given_up = given_up.where(notices.c.id >= smallest_id(since), notices.c.due_at.is_(None), tried)
    every = union_all(again, given_up).subquery()
    columns = (
        every.c.channel,
        func.count().label("number"),
        func.min(every.c.created_at).label("since"),
        func.max(every.c.error).label("error"),
    )
    rows = connection.execute(select(*columns).group_by(every.c.channel).order_by(every.c.channel))
    return [FailingChannel(row.channel, row.number, from_micros(row.since), row.error or "") for row in rows]


def prune_notices(connection: Connection, before: datetime, *, limit: int) -> int:
    """Deletes some notices and closed incidents that are older than an instant; gives how many."""
    at = to_micros(before)
    old = select(notices.c.position).where(notices.c.created_at < at, notices.c.due_at.is_(None)).limit(limit)
    gone = connection.execute(delete(notices).where(notices.c.position.in_(old))).rowcount
    closed = select(incidents.c.id).where(incidents.c.closed_at < at, ~exists().where(notices.c.incident_id == incidents.c.id)).limit(limit)
    return gone + connection.execute(delete(incidents).where(incidents.c.id.in_(closed))).rowcount


def incident_of(row: Row[Any]) -> Incident:
    """A row of `incidents`."""
    return Incident(
        id=row.id,
        job=row.job,
        cause=NoticeEvent(row.cause),
        subject=row.subject,
        opened_at=from_micros(row.opened_at),
        last_at=from_micros(row.last_at),
        events=row.events,
        notices=row.notices,
        told_at=moment(row.told_at),
        closed_at=moment(row.closed_at),
        acknowledged_at=moment(row.acknowledged_at),
        acknowledged_by=row.acknowledged_by,
        note=row.note,
        run_id=row.run_id,
        fire=moment(row.fire),
        reason=reason_of(row),
    )


def notice_of(row: Row[Any]) -> Notice:
    """A row of `notices`."""
    return Notice(
        id=row.id,
        event=NoticeEvent(row.event),
        channel=row.channel,
        created_at=from_micros(row.created_at),
        incident_id=row.incident_id,
        job=row.job,
        run_id=row.run_id,
        facts=loads(row.facts),
        held_until=moment(row.held_until),
        due_at=moment(row.due_at),
        result=NoticeResult(row.result),
        attempts=row.attempts,
        delivered_at=moment(row.delivered_at),
        error=row.error,
    )
