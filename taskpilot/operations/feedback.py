"""A person's word on a run's result: recorded, counted and told."""

from taskpilot.domain.errors import TransitionRefused
from taskpilot.domain.feedback import Feedback, FeedbackVerdict
from taskpilot.domain.instruments import FEEDBACK
from taskpilot.domain.runs import OPEN
from taskpilot.operations.house import House
from taskpilot.operations.running import find_run, publish_change
from taskpilot.store import feedback, totals


def give_feedback(house: House, run_id: str, verdict: FeedbackVerdict, *, by: str, note: str) -> str:
    """Records whether a run's result was right; gives a sentence. An earlier word on the run is replaced.

    The counter counts each word that says something new, so that it never goes back: a change of mind is counted as the new word
    too, the same word again is not. The golden signal reads the words that hold.
    Raises UsageError, NotFound, or TransitionRefused where the run has not ended.
    """
    run = find_run(house, run_id)
    given = Feedback(run.id, verdict, by, house.now(), note)
    with house.store.write() as connection:
        earlier = feedback.feedback_on(connection, run.id)
        if earlier is None and run.status in OPEN:
            raise TransitionRefused(f"run {run.id} is {run.status}: there is no result yet that could be {verdict}")
        feedback.record_feedback(connection, given)
        if earlier is None or earlier.verdict is not verdict:
            totals.add(connection, run.job, [totals.count(FEEDBACK, verdict=verdict)])
            totals.touch(connection, run.job)
    publish_change(house, run.job)
    changed = f", which {earlier.given_by} had called {earlier.verdict}," if earlier and earlier.verdict is not verdict else ""
    return f"run {run.id} of {run.job}{changed} is called {verdict} by {by}"
