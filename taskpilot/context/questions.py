"""`ctx.approve`: a question of the job's own to a person, asked once and answered for exactly these words and details."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from taskpilot.context import scope
from taskpilot.context.session import Session
from taskpilot.context.tool_steps import DENIED_BY_PERSON, JOB_CODE, denial
from taskpilot.domain.decisions import APPROVE, Decision, DecisionStatus, Verdict
from taskpilot.domain.errors import Denied
from taskpilot.domain.ids import new_id
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.domain.text import one_line

_ENGINE: Final = "person"
_REASON_MAX: Final = 500
_LARGEST: Final = 64_000
"""Characters of a question with its details: a person is to read it."""


def ask_person(session: Session, question: str, details: Mapping[str, Any]) -> None:
    """Returns after a yes. Raises Denied after a no or without an answer in time, or Waiting until then, recorded."""
    if not question.strip():
        raise ValueError("the question is empty")
    asked: dict[str, Any] = session.hide({"question": session.journal.mask(question), "details": dict(details)})
    if len(json.dumps(asked)) > _LARGEST:
        raise ValueError(f"the question and its details are longer than {_LARGEST:,} characters")
    place = scope.current().place(StepKind.APPROVE, APPROVE, asked)
    recorded = session.journal.recorded(place)
    if recorded is not None and recorded.status is StepStatus.SUCCEEDED:
        return
    if recorded is not None:
        before = session.journal.denial(recorded)
        raise Denied(recorded.error) if before is None else denial(session, before)
    answer = session.journal.answer(place, asked)
    if answer is None:
        answer = Decision(
            id=new_id(),
            run_id=session.run.id,
            job=session.run.job,
            step_key=place.key,
            agent=JOB_CODE,
            tool=APPROVE,
            arguments=asked,
            engine=_ENGINE,
            path=APPROVE,
            verdict=Verdict.REQUIRE_APPROVAL,
            status=DecisionStatus.PENDING,
            reasons=(one_line(asked["question"], limit=_REASON_MAX),),
            decided_at=session.now(),
        )
        answer = session.journal.ask_person(replace(answer, expires_at=session.answer_by()))
        session.emit_decision(answer)
    if answer.status is DecisionStatus.PENDING:
        raise session.waiting(answer.question, "approval-required")
    if answer.status in DENIED_BY_PERSON:
        denied = denial(session, answer)
        session.journal.note(place, StepStatus.DENIED, value=asked, error=denied, decision_id=answer.id)
        raise denied
    session.journal.note(place, StepStatus.SUCCEEDED, value=asked, decision_id=answer.id)
