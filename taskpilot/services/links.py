"""Answers by the link in a notice: one question, once, for exactly what the link was made for."""

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from taskpilot.deployment import Deployment
from taskpilot.domain.decisions import Decision, DecisionStatus, Via
from taskpilot.domain.errors import TransitionRefused
from taskpilot.domain.runs import OPEN, RESUMABLE, Run
from taskpilot.domain.tasks import TaskStatus
from taskpilot.ledger.expiry import is_over
from taskpilot.messages.actions import Answered
from taskpilot.services.approvals import approve_decision, approve_task, reject_decision, reject_task
from taskpilot.store import runs
from taskpilot.store.approval_links import Question, question_of_link


class LinkState(StrEnum):
    """What a link is good for."""

    OPEN = "open"
    FORGED = "forged"
    """It is none of ours."""
    ANSWERED = "answered"
    """A person answered, or the run ended otherwise."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Linked:
    """A link, and what it is about."""

    state: LinkState
    question: Question | None = None
    run: Run | None = None


def read_link(deployment: Deployment, token: str) -> Linked:
    """What a link is about; changes nothing. Raises StoreError or StoreBusy."""
    with deployment.store.read() as connection:
        question = question_of_link(connection, token)
        run = None if question is None else runs.get_run(connection, question.run_id)
    if question is None:
        return Linked(LinkState.FORGED)
    return Linked(_state(deployment, question, run), question, run)


def answer_by_link(deployment: Deployment, token: str, *, approve: bool, by: str, note: str) -> tuple[Linked, Answered | None]:
    """The link before the answer, and the answer where it was open. Raises StoreError or StoreBusy."""
    found = read_link(deployment, token)
    if found.question is None or found.state is not LinkState.OPEN:
        return found, None
    if isinstance(found.question, Decision):
        answer = partial(approve_decision if approve else reject_decision, deployment, found.question.id)
    else:
        answer = partial(approve_task if approve else reject_task, deployment, found.question.id)
    try:
        return found, answer(by=by, note=note, via=Via.LINK)
    except TransitionRefused:
        # Somebody else was faster, or the time has just ended.
        return read_link(deployment, token), None


def _state(deployment: Deployment, question: Question, run: Run | None) -> LinkState:
    if question.via is Via.EXPIRY:
        return LinkState.EXPIRED
    asked = question.status in (DecisionStatus.PENDING, TaskStatus.REVIEW)
    if not asked or run is None or run.status not in OPEN | RESUMABLE:
        return LinkState.ANSWERED
    return LinkState.EXPIRED if is_over(question, deployment.now()) else LinkState.OPEN
