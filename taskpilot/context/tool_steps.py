"""Tool calls: policy decides, the journal records, and each call is made once."""

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any, Final

from taskpilot.context import scope
from taskpilot.context.session import Session
from taskpilot.domain.decisions import Decision, DecisionStatus, PolicyInput, PolicyResult, Verdict
from taskpilot.domain.errors import BudgetExceeded, Denied, LeaseLost, StoreBusy, StoreError, TaskPilotError, ToolFailed
from taskpilot.domain.ids import new_id
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.specs import ToolSpec
from taskpilot.domain.steps import Step, StepKind, StepPlace, StepStatus
from taskpilot.domain.text import one_line
from taskpilot.domain.usage import Reservation
from taskpilot.journal.started_step import ERROR_KEPT
from taskpilot.policy.rego import ENGINE, GUARDS_PATH
from taskpilot.telemetry.redaction import PLACEHOLDER
from taskpilot.tools.arguments import read_object
from taskpilot.tools.invocation import invoke

JOB_CODE: Final = "job"
"""The agent of the calls that a job's own code makes."""
_GUARDRAILS: Final = "guardrails"
"""The engine of a decision about secrets: no rule made it."""
_NAME_KEPT: Final = 128
_UNREADABLE_KEPT: Final = 1_000
"""Characters of a call to an unknown tool that are recorded."""
DENIED_BY_PERSON: Final = frozenset({DecisionStatus.REJECTED, DecisionStatus.EXPIRED})
"""No answer in time counts as a no."""
_UNCERTAIN: Final = frozenset({StepStatus.BEGUN, StepStatus.UNKNOWN, StepStatus.DIVERGED})


def _as_recorded(error: Exception, mask: Callable[[str], str]) -> Exception:
    """The error as a later attempt raises it from the record; an error of the store is not the tool's and stays unchanged."""
    if isinstance(error, StoreError | StoreBusy):
        return error
    what = str(error) if isinstance(error, TaskPilotError) else f"{type(error).__name__}: {error}"
    return ToolFailed(one_line(mask(what), limit=ERROR_KEPT))


def denial(session: Session, decision: Decision) -> Denied:
    """The denial by a person or a policy, or since nobody answered."""
    if decision.status is DecisionStatus.EXPIRED:
        session.not_answered(decision.expiry)
        return Denied.by_expiry(decision.expiry)
    if decision.status is DecisionStatus.REJECTED:
        return Denied.by_person(decision.tool, decision.settled_by or "", decision.note or "")
    return Denied.by_policy(decision.tool, "; ".join(decision.reasons))


def _question(code: ReasonCode, step: Step) -> Reason:
    """The question to a person about a call."""
    return Reason(code, {"run_id": step.run_id, "step_id": step.id, "tool": step.name})


class EarlierEffects:
    """The effects of earlier executions of the same work."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._steps = list(steps)
        self._taken: set[str] = set()

    def take(self, tool: str, arguments: dict[str, Any]) -> Step | None:
        """The equal call, each one once."""
        equal = (step for step in self._steps if (step.name, step.input) == (tool, arguments) and step.id not in self._taken)
        step = next(equal, None)
        if step is not None:
            self._taken.add(step.id)
        return step

    def last(self, tool: str) -> Step | None:
        """The last call of the tool."""
        return next((step for step in reversed(self._steps) if step.name == tool), None)


class ToolSteps:
    """Calls tools for one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def call(self, spec: ToolSpec, arguments: dict[str, Any], *, agent: str, before: EarlierEffects | None = None) -> Any:
        """The tool's result as JSON types, from a call or from the journal.

        An equal call to one of `before` is not made: it gets that one's result. A person is asked about another call of the same tool.

        Raises Denied, ToolFailed, BudgetExceeded or LeaseLost, or Waiting if a person must answer first.
        """
        session = self._session
        # The tool alone gets a known secret; policy, record, approvals and telemetry see a placeholder.
        given, arguments = arguments, session.hide(arguments)
        place = scope.current().place(StepKind.CALL, spec.name, arguments)
        recorded = session.journal.recorded(place)
        if recorded is not None and not self._may_call_again(recorded, spec):
            return self._replayed(recorded)
        conflicting = session.journal.conflicting(place) if recorded is None else None
        if conflicting is not None:
            raise self._conflict(place, conflicting, arguments, spec)
        repeated = None
        if recorded is None and before is not None:
            equal = before.take(spec.name, arguments)
            if equal is None:
                repeated = before.last(spec.name)
            elif equal.status is not StepStatus.RETRY_REQUESTED:
                session.emit("tool-call-kept", f"{spec.name} was called before, and is not again", tool=spec.name, step_id=equal.id)
                return self._replayed(equal)
        if agent != JOB_CODE and PLACEHOLDER in json.dumps(arguments):
            result = PolicyResult(Verdict.DENY, ("a model may not pass a secret of the settings to a tool",), _GUARDRAILS, GUARDS_PATH)
            raise self._deny(place, self._asked(spec.name, arguments, agent), result)
        decision = self._decide(place, spec, arguments, agent, repeated)
        return self._execute(place, spec, arguments, agent, decision, given)

    def _may_call_again(self, recorded: Step, spec: ToolSpec) -> bool:
        if recorded.status is StepStatus.RETRY_REQUESTED:
            return True
        safe = spec.idempotent and recorded.idempotent
        return safe and recorded.status in {StepStatus.FAILED, StepStatus.BEGUN, StepStatus.UNKNOWN}

    def _replayed(self, recorded: Step) -> Any:
        if recorded.status is StepStatus.SUCCEEDED:
            return self._session.journal.large.read(recorded.result)
        if recorded.status is StepStatus.DENIED:
            raise self._denied_before(recorded)
        if recorded.status in _UNCERTAIN:
            diverged = recorded.status is StepStatus.DIVERGED
            reason = _question(ReasonCode.DIVERGED_STEP if diverged else ReasonCode.UNCERTAIN_STEP, recorded)
            raise self._session.waiting(reason, "step-uncertain")
        raise ToolFailed(recorded.error)

    def _denied_before(self, recorded: Step) -> Denied:
        decision = self._session.journal.denial(recorded)
        return Denied(recorded.error) if decision is None else denial(self._session, decision)

    def _conflict(self, place: StepPlace, before: Step, arguments: dict[str, Any], spec: ToolSpec) -> BaseException:
        """Another call is recorded at this place: this one is not made before a person has decided."""
        error = ToolFailed(f"an earlier attempt called {before.name} here with other arguments (step {before.id})")
        step = self._session.journal.note(place, StepStatus.DIVERGED, value=arguments, error=error, idempotent=spec.idempotent)
        return self._session.waiting(_question(ReasonCode.DIVERGED_STEP, step).with_facts(recorded_tool=before.name), "step-diverged")

    def _decide(self, place: StepPlace, spec: ToolSpec, arguments: dict[str, Any], agent: str, repeated: Step | None) -> Decision:
        """The allowing decision of this call, recorded with its begin. Raises Denied or Waiting, recorded.

        `repeated`: the effect of an earlier execution that this call may repeat; a person is asked.
        """
        session = self._session
        question = self._asked(spec.name, arguments, agent)
        answer = session.journal.answer(place, arguments)
        if answer is not None and answer.status in DENIED_BY_PERSON:
            # A person's no is final in the run, whatever the policy of this attempt says.
            denied = denial(session, answer)
            session.journal.note(place, StepStatus.DENIED, value=arguments, error=denied, decision_id=answer.id)
            raise denied
        result = session.policy.decide(question)
        if result.verdict is Verdict.DENY:
            raise self._deny(place, question, result)
        if repeated is not None and result.verdict is Verdict.ALLOW:
            why = f"an earlier execution of this task called it with {json.dumps(repeated.input, ensure_ascii=False)}"
            result = replace(result, verdict=Verdict.REQUIRE_APPROVAL, reasons=(one_line(why, limit=500),), path=GUARDS_PATH)
        if answer is None and result.verdict is Verdict.REQUIRE_APPROVAL:
            answer = self._decision(place, question, result, DecisionStatus.PENDING)
            answer = replace(answer, expires_at=session.answer_by(spec.approval_timeout))
            # Whether an effect may be repeated is no question that a grant answers.
            answer = session.journal.ask_person(answer, grants=result.path != GUARDS_PATH)
            session.emit_decision(answer)
        if answer is not None and answer.status is DecisionStatus.PENDING:
            # Also where the policy of this attempt would not ask: the person who was asked may still say no.
            raise session.waiting(answer.question, "approval-required")
        if result.verdict is Verdict.ALLOW:
            return self._decision(place, question, result, DecisionStatus.FINAL)
        assert answer is not None
        return answer

    def unknown(self, name: str, arguments: str | dict[str, Any], *, agent: str, offered: Collection[str]) -> Denied:
        """The denial of a call to a tool that was not offered, recorded; to be raised, or told to the model."""
        shown = one_line(name, limit=_NAME_KEPT)
        try:
            given = arguments if isinstance(arguments, dict) else read_object(arguments)
        except ValueError:
            given = {"unreadable": one_line(str(arguments), limit=_UNREADABLE_KEPT)}
        given = self._session.hide(given)
        place = scope.current().place(StepKind.CALL, shown, given)
        recorded = self._session.journal.recorded(place)
        if recorded is not None:
            return self._denied_before(recorded)
        known = f"use one of {', '.join(sorted(offered))}" if offered else "no tool was offered"
        result = PolicyResult(Verdict.DENY, (f"there is no such tool; {known}",), ENGINE, GUARDS_PATH)
        return self._deny(place, self._asked(shown, given, agent), result, label="other")

    def _deny(self, place: StepPlace, question: PolicyInput, result: PolicyResult, *, label: str | None = None) -> Denied:
        """A denial by policy, recorded; to be raised."""
        decision = self._decision(place, question, result, DecisionStatus.FINAL)
        denied = denial(self._session, decision)
        self._session.journal.note(place, StepStatus.DENIED, value=question.arguments, error=denied, decision=decision, label=label)
        self._session.emit_decision(decision)
        return denied

    def _asked(self, tool: str, arguments: dict[str, Any], agent: str) -> PolicyInput:
        run, spec = self._session.run, self._session.spec
        job_tools = tuple(tool.name for tool in spec.tools)
        return PolicyInput(tool=tool, arguments=arguments, agent=agent, job=run.job, run_id=run.id, job_tools=job_tools)

    def _decision(self, place: StepPlace, question: PolicyInput, result: PolicyResult, status: DecisionStatus) -> Decision:
        return Decision(
            id=new_id(),
            run_id=question.run_id,
            job=question.job,
            step_key=place.key,
            agent=question.agent,
            tool=question.tool,
            arguments=question.arguments,
            engine=result.engine,
            path=result.path,
            verdict=result.verdict,
            status=status,
            reasons=result.reasons,
            decided_at=self._session.now(),
            evaluation_nanoseconds=result.evaluation_nanoseconds,
            input={"tool": question.tool, "agent": question.agent, "job": question.job, "job_tools": list(question.job_tools)},
        )

    def _execute(
        self, place: StepPlace, spec: ToolSpec, arguments: dict[str, Any], agent: str, decision: Decision, given: dict[str, Any]
    ) -> Any:
        """Makes the call with what was `given`, and records it with the `arguments`, which hold no known secret."""
        session = self._session
        session.seconds_left()
        new = decision.status is DecisionStatus.FINAL
        try:
            begun = session.journal.begin(
                place,
                value=arguments,
                agent=agent,
                reservation=Reservation(tool_calls=1),
                idempotent=spec.idempotent,
                decision=decision if new else None,
                decision_id=decision.id,
            )
        except (BudgetExceeded, LeaseLost) as stop:
            raise session.stopped(stop) from None
        if new:
            session.emit_decision(decision)
        session.check_lease(begun, f"{spec.name} was called")
        try:
            with scope.entered(scope.current().call_path(place)):
                result = invoke(spec, given)
        except Exception as error:
            failed = _as_recorded(error, session.journal.mask)
            session.journal.end(begun, StepStatus.FAILED, error=failed)
            session.emit("tool-call-failed", f"{spec.name}: {one_line(str(failed))}", level="error", tool=spec.name, step_id=begun.step.id)
            raise failed from error
        session.journal.end(begun, StepStatus.SUCCEEDED, result=result)
        session.emit("tool-call-ended", f"{spec.name} was called", tool=spec.name, step_id=begun.step.id)
        return result
