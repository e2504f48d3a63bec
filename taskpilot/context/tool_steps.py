"""Tool calls: policy decides, the journal records, and each call is made once."""

from collections.abc import Callable
from typing import Any

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
from taskpilot.tools.invocation import invoke

_UNCERTAIN = frozenset({StepStatus.BEGUN, StepStatus.UNKNOWN, StepStatus.DIVERGED})


def _as_recorded(error: Exception, mask: Callable[[str], str]) -> Exception:
    """The error as a later attempt raises it from the record; an error of the store is not the tool's and stays unchanged."""
    if isinstance(error, StoreError | StoreBusy):
        return error
    what = str(error) if isinstance(error, TaskPilotError) else f"{type(error).__name__}: {error}"
    return ToolFailed(one_line(mask(what), limit=ERROR_KEPT))


def _denied(decision: Decision) -> Denied:
    """The denial by a person or a policy."""
    if decision.status is DecisionStatus.REJECTED:
        return Denied.by_person(decision.tool, decision.settled_by or "", decision.note or "")
    return Denied.by_policy(decision.tool, "; ".join(decision.reasons))


def _question(code: ReasonCode, step: Step) -> Reason:
    """The question to a person about a call."""
    return Reason(code, {"run_id": step.run_id, "step_id": step.id, "tool": step.name})


class ToolSteps:
    """Calls tools for one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def call(self, spec: ToolSpec, arguments: dict[str, Any], *, agent: str) -> Any:
        """The tool's result as JSON types, from a call or from the journal.

        Raises Denied, ToolFailed, BudgetExceeded or LeaseLost, or Waiting if a person must answer first.
        """
        session = self._session
        place = scope.current().place(StepKind.CALL, spec.name, arguments)
        recorded = session.journal.recorded(place)
        if recorded is not None and not self._may_call_again(recorded, spec):
            return self._replayed(recorded)
        conflicting = session.journal.conflicting(place) if recorded is None else None
        if conflicting is not None:
            raise self._conflict(place, conflicting, arguments, spec)
        decision = self._decide(place, spec, arguments, agent)
        return self._execute(place, spec, arguments, agent, decision)

    def _may_call_again(self, recorded: Step, spec: ToolSpec) -> bool:
        if recorded.status is StepStatus.RETRY_REQUESTED:
            return True
        safe = spec.idempotent and recorded.idempotent
        return safe and recorded.status in {StepStatus.FAILED, StepStatus.BEGUN, StepStatus.UNKNOWN}

    def _replayed(self, recorded: Step) -> Any:
        if recorded.status is StepStatus.SUCCEEDED:
            return recorded.result
        if recorded.status is StepStatus.DENIED:
            decision = self._session.journal.denial(recorded)
            raise Denied(recorded.error) if decision is None else _denied(decision)
        if recorded.status in _UNCERTAIN:
            diverged = recorded.status is StepStatus.DIVERGED
            reason = _question(ReasonCode.DIVERGED_STEP if diverged else ReasonCode.UNCERTAIN_STEP, recorded)
            raise self._session.waiting(reason, "step-uncertain")
        raise ToolFailed(recorded.error)

    def _conflict(self, place: StepPlace, before: Step, arguments: dict[str, Any], spec: ToolSpec) -> BaseException:
        """Another call is recorded at this place: this one is not made before a person has decided."""
        error = ToolFailed(f"an earlier attempt called {before.name} here with other arguments (step {before.id})")
        step = self._session.journal.note(place, StepStatus.DIVERGED, value=arguments, error=error, idempotent=spec.idempotent)
        return self._session.waiting(_question(ReasonCode.DIVERGED_STEP, step).with_facts(recorded_tool=before.name), "step-diverged")

    def _decide(self, place: StepPlace, spec: ToolSpec, arguments: dict[str, Any], agent: str) -> Decision:
        """The allowing decision of this call, recorded with its begin. Raises Denied or Waiting, recorded."""
        session = self._session
        question = PolicyInput(
            tool=spec.name,
            arguments=arguments,
            agent=agent,
            job=session.run.job,
            run_id=session.run.id,
            job_tools=tuple(tool.name for tool in session.spec.tools),
        )
        result = session.policy.decide(question)
        if result.verdict is Verdict.ALLOW:
            return self._decision(place, question, result, Verdict.ALLOW, DecisionStatus.FINAL)
        if result.verdict is Verdict.REQUIRE_APPROVAL:
            approval = session.journal.approval(place)
            if approval is not None and approval.status is DecisionStatus.APPROVED:
                return approval
            if approval is None:
                approval = self._decision(place, question, result, Verdict.REQUIRE_APPROVAL, DecisionStatus.PENDING)
                session.journal.decide(approval)
                session.emit_decision(approval)
            if approval.status is DecisionStatus.PENDING:
                raise session.waiting(approval.question, "approval-required")
            denied = _denied(approval)
            session.journal.note(place, StepStatus.DENIED, value=arguments, error=denied)
            raise denied
        decision = self._decision(place, question, result, Verdict.DENY, DecisionStatus.FINAL)
        denied = _denied(decision)
        session.journal.note(place, StepStatus.DENIED, value=arguments, error=denied, decision=decision)
        session.emit_decision(decision)
        raise denied

    def _decision(
        self, place: StepPlace, question: PolicyInput, result: PolicyResult, verdict: Verdict, status: DecisionStatus
    ) -> Decision:
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
            verdict=verdict,
            status=status,
            reasons=result.reasons,
            decided_at=self._session.now(),
            evaluation_nanoseconds=result.evaluation_nanoseconds,
            input={"tool": question.tool, "agent": question.agent, "job": question.job, "job_tools": list(question.job_tools)},
        )

    def _execute(self, place: StepPlace, spec: ToolSpec, arguments: dict[str, Any], agent: str, decision: Decision) -> Any:
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
                result = invoke(spec, arguments)
        except Exception as error:
            failed = _as_recorded(error, session.journal.mask)
            session.journal.end(begun, StepStatus.FAILED, error=failed)
            session.emit("tool-call-failed", f"{spec.name}: {one_line(str(failed))}", level="error", tool=spec.name, step_id=begun.step.id)
            raise failed from error
        session.journal.end(begun, StepStatus.SUCCEEDED, result=result)
        session.emit("tool-call-ended", f"{spec.name} was called", tool=spec.name, step_id=begun.step.id)
        return result
