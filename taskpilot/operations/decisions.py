"""Verdicts on tool calls: lists of decisions, and one of them."""

from taskpilot.domain.decisions import Decision
from taskpilot.domain.errors import NotFound
from taskpilot.domain.identity import parse_id
from taskpilot.operations.house import House
from taskpilot.operations.runs import checked_page
from taskpilot.store import listings, tasks
from taskpilot.store.listings import Page


def list_decisions(
    house: House,
    page: Page,
    *,
    run_id: str | None = None,
    job: str | None = None,
    status: str | None = None,
    verdict: str | None = None,
) -> list[Decision]:
    """A page of decisions, the newest first."""
    run_id = None if run_id is None else parse_id(run_id)
    with house.store.read() as connection:
        page = checked_page(page, "decision")
        return listings.decisions_page(connection, page, run_id=run_id, job=job, status=status, verdict=verdict)


def show_decision(house: House, decision_id: str) -> Decision:
    """One decision. Raises UsageError or NotFound."""
    decision_id = parse_id(decision_id, noun="decision")
    with house.store.read() as connection:
        decision = tasks.get_decision(connection, decision_id)
    if decision is None:
        raise NotFound(f"there is no decision {decision_id}; `taskpilot decisions list` shows them")
    return decision
