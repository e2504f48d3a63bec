"""Runs, resumes and cancels runs, and publishes the changes at the end."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import TaskPilotError, TransitionRefused, UsageError
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.fires import StartOrder
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import RESUMABLE, FireOutcome, Run, RunStatus, RunSummary, exit_code
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.steps import StepAnswer, StepKind, StepStatus
from taskpilot.domain.times import to_micros
from taskpilot.http import TimedCall
from taskpilot.ledger.claims import Claim, Hold, RunPlan, Skip
from taskpilot.messages.actions import Cancelled
from taskpilot.process import Interrupts
from taskpilot.services.attempts import Attempts, Display, RunChild
from taskpilot.services.inputs import forget_run_dir
from taskpilot.services.planning import RunRequest, plan_resume, plan_run
from taskpilot.services.publishing import publish_change
from taskpilot.store import runs, steps
from taskpilot.store.ids import find_id
from taskpilot.store.records import dumps
from taskpilot.telemetry.publish import TOTAL_SECONDS
from taskpilot.views.job_facts import facts_of
from taskpilot.views.runs import no_run, summarize

_HOLD_SECONDS: Final = 0.5
"""Between two checks whether the active run has ended."""
_PING_SHARE: Final = 1.0
"""Seconds that the ping of a run's start may still take after the run's end."""
_START_SHARE: Final = 0.2
"""Seconds of the half second that a push at a run's start may take; the job runs meanwhile."""


@dataclass(frozen=True)
class Finished:
    """The result of a command that ran a job."""

    summary: RunSummary
    """Where nothing ran, with the reason."""
    exit_code: ExitCode


def run_job(deployment: Deployment, request: RunRequest, run_child: RunChild, display: Display) -> Finished:
    """Plans, claims and supervises one run. Raises UsageError, ConfigurationError, StoreError or StoreBusy before anything is claimed."""
    plan = plan_run(deployment, request)
    if isinstance(plan, Reason):
        return Finished(RunSummary(run_id=None, job=request.job, status=plan.code, reason=plan), ExitCode.SUCCEEDED)
    # Changes are published at the end, so that they do not delay the job's start.
    with Interrupts() as interrupts, deployment.store.deferred_changes():
        try:
            claim = _claim(deployment, plan, interrupts)
        except BaseException:
            forget_run_dir(deployment.run_dir(plan.run_id))
            raise
        if not isinstance(claim, Claim):
            forget_run_dir(deployment.run_dir(plan.run_id))
            return skipped(plan.spec, claim)
        if claim.run.id != plan.run_id:
            forget_run_dir(deployment.run_dir(plan.run_id))
        finished = supervised(deployment, plan.spec, claim, run_child, display, interrupts)
        _send_notices(deployment, interrupts)
        return finished


def resume_run(
    deployment: Deployment, run_id: str, *, model: str | None, answer: StepAnswer | None, run_child: RunChild, display: Display
) -> Finished:
    """Continues a run from its journal, with a person's answer about a step where one is needed.

    Raises UsageError, NotFound, ConfigurationError or TransitionRefused.
    """
    run = find_run(deployment, run_id)
    plan = plan_resume(deployment, run, model)
    if answer is not None:
        answer_step(deployment, run, answer)
    with Interrupts() as interrupts, deployment.store.deferred_changes():
        claim = deployment.ledger.resume(plan)
        finished = supervised(deployment, plan.spec, claim, run_child, display, interrupts)
        _send_notices(deployment, interrupts)
        return finished


def cancel_run(deployment: Deployment, run_id: str) -> Cancelled:
    """Cancels a run. Raises UsageError, NotFound, or TransitionRefused where it has ended."""
    run = find_run(deployment, run_id)
    before = deployment.ledger.cancel(run.id)
    return Cancelled(run.id, before, ended=find_run(deployment, run.id).status is RunStatus.CANCELLED)


def answer_step(deployment: Deployment, run: Run, answer: StepAnswer) -> None:
    """Records a person's answer about an uncertain or diverged call. Raises UsageError or TransitionRefused."""
    now = to_micros(deployment.now())
    with deployment.store.write() as connection:
        step_id = find_id(connection, answer.step_id, noun="step", of_run=run.id)
        standing = runs.get_run(connection, run.id)
        if standing is not None and standing.status not in RESUMABLE | {RunStatus.RUNNING}:
            raise TransitionRefused(f"run {run.id} is {standing.status}: it waits for no answer")
        step = steps.get_step(connection, run.id, step_id)
        if step is None:
            raise UsageError(f"run {run.id} has no step {step_id}", hint=f"taskpilot runs show {run.id}")
        if step.kind is StepKind.GIVEN and answer.kind == "done":
            raise TransitionRefused(f"step {step_id} is a changed item, which has no result to give", hint="answer --again or --fail")
        if step.kind not in (StepKind.CALL, StepKind.GIVEN):
            raise TransitionRefused(f"step {step_id} is not a tool call; it is retried automatically")
        if step.status not in (StepStatus.UNKNOWN, StepStatus.DIVERGED, StepStatus.FAILED):
            raise TransitionRefused(f"step {step_id} is {step.status}: no answer needed")
        if answer.kind == "done":
            values: dict[str, Any] = {"status": StepStatus.SUCCEEDED, "result": dumps(answer.result), "error": None, "error_type": None}
        elif answer.kind == "fail":
            values = {"status": StepStatus.FAILED, "error": "a person said that it failed", "error_type": "ToolFailed", "idempotent": 0}
        else:
            values = {"status": StepStatus.RETRY_REQUESTED}
        steps.answer_step(connection, step_id, ended_at=now, **values)


def find_run(deployment: Deployment, run_id: str) -> Run:
    """The run of an id that came from outside. Raises UsageError or NotFound."""
    with deployment.store.read() as connection:
        parsed = find_id(connection, run_id)
        run = runs.get_run(connection, parsed)
    if run is None:
        raise no_run(parsed)
    return run


def supervised(
    deployment: Deployment, spec: JobSpec, claim: Claim, run_child: RunChild, display: Display, interrupts: Interrupts
) -> Finished:
    """Supervises a claimed run until it ends or waits, and publishes it.

    The caller defers the store's changes: all that the run changed is published here, with its spans.
    """
    seconds = TOTAL_SECONDS

    pings: list[TimedCall[None]] = []

    def on_fork() -> None:
        if not pings and (spec.ping_url or deployment.settings.notify_ping_url):
            # Late: most runs ping nobody.
            from taskpilot.notices.work import ping_start

            pings.extend(ping_start(deployment, spec, claim))

    def push_start() -> None:
        nonlocal seconds
        gateway = deployment.gateway
        if gateway is not None:
            began = time.monotonic()
            gateway.push(facts_of(deployment, spec, model=claim.run.model), seconds=_START_SHARE)
            seconds -= min(_START_SHARE, time.monotonic() - began)

    try:
        Attempts(deployment, spec, run_child, display, push_start, on_fork).run(claim, interrupts)
    finally:
        display.close(claim.run)
    for call in pings:
        # So that the ping of its end, which is sent later, is not overtaken.
        call.wait(_PING_SHARE)
    publish_change(deployment, spec.name, run_id=claim.run.id, model=claim.run.model, seconds=seconds)
    with deployment.store.deferred_changes() as changes:
        changes.clear()
    run = find_run(deployment, claim.run.id)
    return Finished(summarize(deployment.store, run.id), exit_code(run.status, run.reason.cause))


def _send_notices(deployment: Deployment, interrupts: Interrupts) -> None:
    """Within the signals' handlers: one that arrives now ends the sending, and the command ends as the run did."""
    # Late: a run that is skipped or refused does not import it.
    from taskpilot.notices.work import send_after_run

    before = len(interrupts.arrived)
    with suppress(TaskPilotError):
        # What came due while the job ran is told with it.
        deployment.ledger.expire()
    send_after_run(deployment, stop=lambda: len(interrupts.arrived) > before)


def _claim(deployment: Deployment, plan: RunPlan, interrupts: Interrupts) -> Claim | Skip:
    """Claims the plan; waits while another run is active, until a signal ends the wait."""
    while isinstance(claim := deployment.ledger.claim(plan), Hold):
        if interrupts.first is not None:
            reason = Reason(ReasonCode.INTERRUPTED, {**claim.reason.facts, "signal": interrupts.first.name})
            if plan.scheduled_for is not None:
                deployment.queue.close(StartOrder(plan.spec.name, plan.scheduled_for), FireOutcome.SKIPPED_OVERLAP, reason)
            return Skip(FireOutcome.SKIPPED_OVERLAP, reason)
        interrupts.wait(_HOLD_SECONDS)
    return claim


def skipped(spec: JobSpec, skip: Skip) -> Finished:
    """The result of a run that does not start."""
    return Finished(RunSummary(run_id=None, job=spec.name, status=skip.outcome, reason=skip.reason), skip.exit_code)
