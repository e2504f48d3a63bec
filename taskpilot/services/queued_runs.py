"""Queues runs for the server, and starts queued runs in a supervisor."""

from collections.abc import Mapping, Sequence
from typing import Any

from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError, NotFound, StoreError, UsageError
from taskpilot.domain.fires import StartOrder
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import FireOutcome, Run
from taskpilot.domain.steps import StepAnswer
from taskpilot.domain.text import one_line
from taskpilot.jobs.parameters import describe_parameters
from taskpilot.ledger.claims import Claim, Hold, RunPlan
from taskpilot.process import Interrupts
from taskpilot.services.attempts import Display, RunChild
from taskpilot.services.inputs import forget_run_dir
from taskpilot.services.planning import RunRequest, plan_resume, plan_run, request_again
from taskpilot.services.preflight import configuration_reason
from taskpilot.services.running import Finished, answer_step, find_run, skipped, supervised


def enqueue_run(
    deployment: Deployment, job: str, *, parameters: Mapping[str, Any], texts: Sequence[tuple[str, str]] = (), model: str | None = None
) -> Run:
    """Adds a new run to the server's queue and returns it. The parameters are JSON values, or texts as with `-p`.

    Raises UsageError (an unknown job, or parameters that do not fit), ConfigurationError, or TransitionRefused where the job is paused or
    has an active run.
    """
    deployment.follow_settings()
    spec = deployment.job(job)
    files = [one.name for one in describe_parameters(spec) if one.input and one.name in (*parameters, *dict(texts))]
    if files:
        raise UsageError(
            f"parameter {one_line(', '.join(files))} names a file on the server, which a remote client may not choose",
            hint="leave it to the job's default, or type `taskpilot run` on the server",
        )
    return _enqueue(deployment, RunRequest(job, parameters=texts, values=parameters, model=model))


def enqueue_rerun(deployment: Deployment, run_id: str, *, model: str | None = None) -> Run:
    """Adds a new run with the parameters and input files of an earlier one to the server's queue. Raises as `enqueue_run`, and NotFound."""
    return _enqueue(deployment, request_again(find_run(deployment, run_id), model))


def enqueue_resume(deployment: Deployment, run_id: str, *, model: str | None = None, answer: StepAnswer | None = None) -> Run:
    """Adds a run to the server's queue, which continues it from its journal, with a person's answer about a step where one is needed.

    Raises UsageError, NotFound, ConfigurationError or TransitionRefused.
    """
    run = find_run(deployment, run_id)
    plan = plan_resume(deployment, run, model)
    if answer is not None:
        answer_step(deployment, run, answer)
    return deployment.ledger.enqueue_resume(plan)


def _enqueue(deployment: Deployment, request: RunRequest) -> Run:
    plan = plan_run(deployment, request)
    assert isinstance(plan, RunPlan), "a run that names no fire is always due"
    try:
        run = deployment.ledger.enqueue(plan)
    except BaseException:
        forget_run_dir(deployment.run_dir(plan.run_id))
        raise
    return run


def start_order(deployment: Deployment, order: StartOrder, run_child: RunChild, display: Display) -> Finished | None:
    """Runs what was taken out of the queue; None where another process started it, or it is in the queue again.

    What would fail every time is removed from the queue, with the reason. Raises StoreError or StoreBusy.
    """
    if deployment.store_is_missing:
        # The order came from a store: a new one in its place would hide that it was moved away.
        raise StoreError(f"the store in {deployment.settings.state_dir} is gone", hint="put it back, or restore it from a backup")
    store = deployment.store
    try:
        # The process that was forked for this run is older than the settings may be.
        deployment.follow_settings()
        plan = _plan(deployment, order)
    except (ConfigurationError, UsageError, NotFound) as error:
        reason = Reason(ReasonCode.CONFIGURATION, {"error": error.one_line}) if isinstance(error, NotFound) else configuration_reason(error)
        deployment.queue.close(order, FireOutcome.BLOCKED_CONFIG, reason)
        return None
    with Interrupts() as interrupts, store.deferred_changes():
        try:
            claim = deployment.ledger.claim(plan) if order.run_id is None else deployment.ledger.start_queued(plan)
        except BaseException:
            _forget(deployment, plan, order)
            raise
        if not isinstance(claim, Claim) or claim.run.id != plan.run_id:
            _forget(deployment, plan, order)
        if isinstance(claim, Hold):
            deployment.queue.requeue(order)
            return None
        if claim is None:
            return None
        if not isinstance(claim, Claim):
            return skipped(plan.spec, claim)
        return supervised(deployment, plan.spec, claim, run_child, display, interrupts)


def _plan(deployment: Deployment, order: StartOrder) -> RunPlan:
    if order.run_id is not None:
        return plan_resume(deployment, find_run(deployment, order.run_id), None)
    assert order.scheduled_for is not None
    plan = plan_run(deployment, RunRequest(job=order.job, scheduled_for=order.scheduled_for.isoformat()))
    assert isinstance(plan, RunPlan)
    return plan


def _forget(deployment: Deployment, plan: RunPlan, order: StartOrder) -> None:
    """Removes the folder of a run that does not start; a queued run's own stays."""
    if order.run_id is None:
        forget_run_dir(deployment.run_dir(plan.run_id))
