"""Queries over what people said of results."""

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from taskpilot.domain.feedback import Feedback, FeedbackVerdict
from taskpilot.domain.moments import from_micros, to_micros
from taskpilot.domain.text import storable
from taskpilot.store.tables import feedback


def feedback_on(connection: Connection, run_id: str) -> Feedback | None:
    """The word that holds on a run; None where nobody said anything."""
    row = connection.execute(select(feedback).where(feedback.c.run_id == run_id)).first()
    if row is None:
        return None
    return Feedback(row.run_id, FeedbackVerdict(row.verdict), row.given_by, from_micros(row.given_at), row.note)


def record_feedback(connection: Connection, given: Feedback) -> None:
    """Records a word on a run; an earlier one is replaced."""
    values = {
        "verdict": given.verdict,
        "given_by": storable(given.given_by),
        "given_at": to_micros(given.given_at),
        "note": storable(given.note),
    }
    statement = insert(feedback).values(run_id=given.run_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["run_id"], set_=values))
