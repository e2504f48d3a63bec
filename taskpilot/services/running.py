"""Runs, resumes and cancels: from the request to the record, with the signals told at the end."""

import signal
import time
from dataclasses import dataclass
from typing import Any, Final, Literal

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import TransitionRefused, UsageError
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.fires import StartOrder
from taskpilot.domain.ids import parse_id
from taskpilot.domain.runs import RESUMABLE, FireOutcome, Run, RunStatus, RunSummary, exit_code
from taskpilot.domain.specs import JobSpec
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.domain.times import to_micros
from taskpilot.ledger.claims import Claim, Hold, RunPlan, Skip
from taskpilot.process import Interrupts
from taskpilot.services.attempts import Attempts, Display, RunChild
from taskpilot.services.inputs import forget_run_dir
from taskpilot.services.planning import RunRequest, budget_note, plan_resume, plan_run
from taskpilot.store import listings, runs, steps, tasks
from taskpilot.store.records import dumps
from taskpilot.telemetry.publish import TOTAL_SECONDS, Targets, publish
from taskpilot.views.job_facts import describe, facts_of
from taskpilot.views.runs import has_output, no_run, summarize

_HOLD_SECONDS: Final = 0.5
"""Between two looks at whether the run in the way has ended."""
_START_SHARE: Final = 0.2
"""Seconds of the half second that a push at a run's start may take; it goes on beside the job."""


@dataclass(frozen=True)
class StepAnswer:
    """What a person says of an uncertain or diverged call."""

    step_id: str
    kind: Literal["done", "again", "fail"]
    result: Any = None


@dataclass(frozen=True)
class Finished:
    """What a command that ran something prints and exits with."""

    summary: RunSummary
    exit_code: ExitCode
    notes: tuple[str, ...]


def run_job(deployment: Deployment, request: RunRequest, run_child: RunChild, display: Display) -> Finished:
    """Plans, claims and supervises one run. Raises UsageError, ConfigurationError, StoreError or StoreBusy before anything is claimed."""
    plan = plan_run(deployment, request)
    if isinstance(plan, str):
        summary = RunSummary(run_id=None, job=request.job, status="nothing_due", reason=plan)
        return Finished(summary, ExitCode.SUCCEEDED, (plan,))
    with Interrupts() as interrupts:
        try:
            claim = _claim(deployment, plan, interrupts)
        except BaseException:
            forget_run_dir(deployment.run_dir(plan.run_id))
            raise
        if not isinstance(claim, Claim):
            forget_run_dir(deployment.run_dir(plan.run_id))
            return skipped(deployment, plan.spec, claim)
        if claim.run.id != plan.run_id:
            forget_run_dir(deployment.run_dir(plan.run_id))
        return supervised(deployment, plan.spec, claim, run_child, display, interrupts)


def resume_run(
    deployment: Deployment, run_id: str, *, model: str | None, answer: StepAnswer | None, run_child: RunChild, display: Display
) -> Finished:
    """Goes on with a run from its journal, with a person's answer to a step where one is asked.

    Raises UsageError, NotFound, ConfigurationError or TransitionRefused.
    """
    run = find_run(deployment, run_id)
    plan = plan_resume(deployment, run, model)
    if answer is not None:
        answer_step(deployment, run, answer)
    with Interrupts() as interrupts:
        claim = deployment.ledger.resume(plan)
        return supervised(deployment, plan.spec, claim, run_child, display, interrupts)


def cancel_run(deployment: Deployment, run_id: str) -> str:
    """Cancels a run; gives a sentence that says how. Raises UsageError, NotFound, or TransitionRefused where it has ended."""
    run = find_run(deployment, run_id)
    before = deployment.ledger.cancel(run.id)
    if find_run(deployment, run_id).status is RunStatus.CANCELLED:
        publish_change(deployment, run.job, run_id=run.id)
        return f"run {run.id} was {before} and is cancelled"
    return f"run {run.id} is asked to end: its supervisor sends SIGTERM within a second, and kills what is left after 10 s"


def answer_step(deployment: Deployment, run: Run, answer: StepAnswer) -> None:
    """Records what a person says of a call that nobody else can judge. Raises UsageError or TransitionRefused."""
    step_id = parse_id(answer.step_id, noun="step", shown_by=f"runs show {run.id}")
    now = to_micros(deployment.now())
    with deployment.store.write() as connection:
        standing = runs.get_run(connection, run.id)
        if standing is not None and standing.status not in RESUMABLE | {RunStatus.RUNNING}:
            raise TransitionRefused(f"run {run.id} is {standing.status}: it waits for no answer")
        step = steps.get_step(connection, run.id, step_id)
        if step is None:
            raise UsageError(f"run {run.id} has no step {step_id}; `taskpilot runs show {run.id}` shows those that wait")
        if step.kind is not StepKind.CALL:
            raise TransitionRefused(f"step {step_id} is no tool call: what it left open is made anew by itself")
        if step.status not in (StepStatus.UNKNOWN, StepStatus.DIVERGED, StepStatus.FAILED):
            raise TransitionRefused(f"step {step_id} is {step.status}: nobody has to say anything of it")
        if answer.kind == "done":
            values: dict[str, Any] = {"status": StepStatus.SUCCEEDED, "result": dumps(answer.result), "error": None, "error_type": None}
        elif answer.kind == "fail":
            values = {"status": StepStatus.FAILED, "error": "a person said that it failed", "error_type": "ToolFailed", "idempotent": 0}
        else:
            values = {"status": StepStatus.RETRY_REQUESTED}
        steps.answer_step(connection, step_id, ended_at=now, **values)


def find_run(deployment: Deployment, run_id: str) -> Run:
    """The run of an id that came from outside. Raises UsageError or NotFound."""
    parsed = parse_id(run_id)
    with deployment.store.read() as connection:
        run = runs.get_run(connection, parsed)
    if run is None:
        raise no_run(parsed)
    return run


def publish_change(
    deployment: Deployment, job: str, *, run_id: str | None = None, model: str | None = None, seconds: float = TOTAL_SECONDS
) -> None:
    """Tells the signals that the job's ledger changed: files, gateway, collector; quiet, and bounded."""
    publish(
        deployment.store,
        Targets.of(deployment.settings),
        run_id,
        describe(deployment, job, model=model),
        describe=lambda name: describe(deployment, name),
        total_seconds=seconds,
        now=deployment.now,
    )


def supervised(
    deployment: Deployment, spec: JobSpec, claim: Claim, run_child: RunChild, display: Display, interrupts: Interrupts
) -> Finished:
    """Supervises a claimed run to where it stands for good, and tells the signals."""
    seconds = TOTAL_SECONDS

    def push_start() -> None:
        nonlocal seconds
        gateway = deployment.gateway
        if gateway is not None:
            began = time.monotonic()
            gateway.push(facts_of(deployment, spec, model=claim.run.model), seconds=_START_SHARE)
            seconds -= min(_START_SHARE, time.monotonic() - began)

    try:
        Attempts(deployment, spec, run_child, display, push_start).run(claim, interrupts)
    finally:
        display.close()
    publish_change(deployment, spec.name, run_id=claim.run.id, model=claim.run.model, seconds=seconds)
    run = find_run(deployment, claim.run.id)
    return Finished(summarize(deployment.store, run.id), exit_code(run.status, run.reason), _notes(deployment, spec, run))


def _claim(deployment: Deployment, plan: RunPlan, interrupts: Interrupts) -> Claim | Skip:
    """The claim; a run that is to start when another one has ended waits for it here, until a signal ends the wait."""
    while isinstance(claim := deployment.ledger.claim(plan), Hold):
        if interrupts.first is not None:
            reason = f"{interrupts.first.name} ended the wait: {claim.message}"
            if plan.scheduled_for is not None:
                deployment.queue.close(StartOrder(plan.spec.name, plan.scheduled_for), FireOutcome.SKIPPED_OVERLAP, reason)
            code = ExitCode.SIGINT if interrupts.first == signal.SIGINT else ExitCode.SIGTERM
            return Skip(FireOutcome.SKIPPED_OVERLAP, code, reason, claim.run_id, recorded=plan.scheduled_for is not None)
        interrupts.wait(_HOLD_SECONDS)
    return claim


def skipped(deployment: Deployment, spec: JobSpec, skip: Skip) -> Finished:
    """What a run that is not to start comes to; the signals are told where that is new in the record."""
    if skip.recorded:
        publish_change(deployment, spec.name)
    status = skip.outcome
    return Finished(RunSummary(run_id=None, job=spec.name, status=status, reason=skip.message), skip.exit_code, (skip.message,))


def _notes(deployment: Deployment, spec: JobSpec, run: Run) -> tuple[str, ...]:
    """What a person should know after the result, and the next command to type."""
    notes = [budget_note(spec, run.model)]
    if run.spend.cost_nano is None:
        notes.append(
            "cost: unknown, a call had no price or no usage; the budget then holds by calls and tokens. "
            "prices.toml in the root gives a model its price"
        )
    if run.status is RunStatus.WAITING:
        notes += _questions(deployment, run)
    elif run.status is RunStatus.QUEUED:
        notes.append(f"taskpilot runs resume {run.id}   goes on from the journal")
    if run.status in (RunStatus.FAILED, RunStatus.LOST) and has_output(deployment.run_dir(run.id)):
        notes.append(f"taskpilot runs logs {run.id} --output   what it said")
    notes.append(f"taskpilot runs show {run.id}   shows every step")
    return tuple(notes)


def _questions(deployment: Deployment, run: Run) -> list[str]:
    with deployment.store.read() as connection:
        reviews = [task for task in tasks.tasks_of(connection, run.id) if task.status == "review"]
        approvals = tasks.pending_decisions(connection, run.id)
        uncertain = listings.uncertain_steps(connection, run.id)
    asked = [f"taskpilot tasks approve {task.id}   (or reject)" for task in reviews]
    asked += [f"taskpilot decisions approve {decision.id}   (or reject)" for decision in approvals]
    asked += [f"taskpilot runs resume {run.id} --step {step.id} --done JSON|--again|--fail" for step in uncertain]
    return [*asked, f"taskpilot runs resume {run.id}   when all is answered"]
