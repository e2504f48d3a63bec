"""Incidents and notices as people see them: lists and JSON."""

from datetime import datetime
from typing import Any

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import NotFound
from taskpilot.domain.notices import Incident, IncidentState, Notice, NoticeResult
from taskpilot.messages.shapes import iso
from taskpilot.store import listings
from taskpilot.store.listings import Page
from taskpilot.store.notices import get_incident


def list_incidents(deployment: Deployment, page: Page, *, job: str | None = None, states: tuple[IncidentState, ...] = ()) -> list[Incident]:
    """The newest incidents first. Raises UsageError, NotFound, StoreError or StoreBusy."""
    if deployment.store_is_missing:
        return []
    with deployment.store.read() as connection:
        return listings.incidents_page(connection, page, job=job, states=states)


def list_notices(
    deployment: Deployment,
    page: Page = Page(),
    *,
    channel: str | None = None,
    job: str | None = None,
    incident_id: str | None = None,
    results: tuple[NoticeResult, ...] = (),
) -> list[Notice]:
    """The newest notices first, without pings. Raises UsageError, NotFound, StoreError or StoreBusy."""
    if deployment.store_is_missing:
        return []
    with deployment.store.read() as connection:
        return listings.notices_page(connection, page, channel=channel, job=job, incident_id=incident_id, results=results)


def show_incident(deployment: Deployment, incident_id: str) -> Incident:
    """One incident by its whole id. Raises NotFound, StoreError or StoreBusy."""
    with deployment.store.read() as connection:
        found = get_incident(connection, incident_id)
    if found is None:
        raise NotFound(f"there is no incident {incident_id}", hint="taskpilot incidents list")
    return found


def incident_json(one: Incident) -> dict[str, Any]:
    """An incident."""
    return {
        "id": one.id,
        "job": one.job or None,
        "cause": one.cause.value,
        "opened_at": iso(one.opened_at),
        "closed_at": iso(one.closed_at),
        "acknowledged_by": one.acknowledged_by,
        "notices": one.notices,
        "state": one.state.value,
        "acknowledged_at": iso(one.acknowledged_at),
        "last_at": iso(one.last_at),
        "count": one.events,
        "run_id": one.run_id,
        "reason_code": one.reason.code.value,
        "reason_facts": dict(one.reason.facts),
        "note": one.note,
    }


def notice_json(one: Notice) -> dict[str, Any]:
    """A notice on one channel."""
    return {
        "id": one.id,
        "incident_id": one.incident_id,
        "event": one.event.value,
        "channel": one.channel,
        "result": one.result.value,
        "attempts": one.attempts,
        "created_at": iso(one.created_at),
        "delivered_at": iso(one.delivered_at),
        "error": one.error,
        "job": one.job or None,
        "run_id": one.run_id,
        "next_try_at": iso(_next_try(one)),
    }


def _next_try(one: Notice) -> datetime | None:
    if one.due_at is None or one.held_until is None:
        return one.due_at
    return max(one.due_at, one.held_until)
