"""Queries over standing grants."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from taskpilot.domain.decisions import Decision, DecisionStatus, Grant, GrantState, Via
from taskpilot.domain.text import storable
from taskpilot.domain.times import from_micros, to_micros
from taskpilot.store.approval_tables import grants
from taskpilot.store.records import dumps, loads, moment
from taskpilot.store.tables import decisions

_MOST: Final = 1_000


def insert_grant(connection: Connection, grant: Grant) -> None:
    """Records a grant, of which its own decision is a use."""
    row = {
        "id": grant.id,
        "decision_id": grant.decision_id,
        "job": grant.job,
        "tool": grant.tool,
        "arguments": dumps(grant.arguments),
        "schema": None if grant.schema is None else dumps(grant.schema),
        "until_at": to_micros(grant.until),
        "uses_max": grant.uses_max,
        "uses": grant.uses,
        "granted_by": storable(grant.granted_by),
        "granted_at": to_micros(grant.granted_at),
        "note": storable(grant.note),
    }
    connection.execute(insert(grants).values(**row))
    connection.execute(update(decisions).where(decisions.c.id == grant.decision_id).values(grant_id=grant.id))


def granted(connection: Connection, asked: Decision, *, now: datetime) -> Decision | None:
    """The decision as a standing grant approves it, with that use of the grant; None where none does.

    In the transaction that records the decision: no kill and no other process makes one use of two.
    """
    wanted = select(grants).where(grants.c.job == asked.job, grants.c.tool == asked.tool).order_by(grants.c.id)
    for grant in map(grant_of, connection.execute(wanted)):
        if grant.state(now) is not GrantState.OPEN or not grant.covers(asked.arguments):
            continue
        unused = update(grants).where(grants.c.id == grant.id, grants.c.uses < grants.c.uses_max)
        if connection.execute(unused.values(uses=grants.c.uses + 1)).rowcount == 1:
            return replace(
                asked,
                status=DecisionStatus.APPROVED,
                settled_by=grant.granted_by,
                settled_at=now,
                note=grant.note,
                expires_at=None,
                via=Via.GRANT,
                grant_id=grant.id,
            )
    return None


def get_grant(connection: Connection, grant_id: str) -> Grant | None:
    """One grant."""
    row = connection.execute(select(grants).where(grants.c.id == grant_id)).first()
    return None if row is None else grant_of(row)


def all_grants(connection: Connection) -> list[Grant]:
    """The grants, the newest first."""
    return [grant_of(row) for row in connection.execute(select(grants).order_by(grants.c.id.desc()).limit(_MOST))]


def revoke_grant(connection: Connection, grant_id: str, *, by: str, now: datetime) -> bool:
    """From now on it approves nothing; False where that was so before."""
    open_one = update(grants).where(grants.c.id == grant_id, grants.c.revoked_at.is_(None))
    return connection.execute(open_one.values(revoked_by=storable(by), revoked_at=to_micros(now))).rowcount == 1


def grant_of(row: Row[Any]) -> Grant:
    """A row of `grants`."""
    return Grant(
        id=row.id,
        decision_id=row.decision_id,
        job=row.job,
        tool=row.tool,
        arguments=loads(row.arguments),
        schema=loads(row.schema),
        until=from_micros(row.until_at),
        uses_max=row.uses_max,
        uses=row.uses,
        granted_by=row.granted_by,
        granted_at=from_micros(row.granted_at),
        note=row.note,
        revoked_by=row.revoked_by,
        revoked_at=moment(row.revoked_at),
    )
