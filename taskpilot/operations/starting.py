"""What a supervisor that a server started does: its order, from the checks to the record; the same spine as `taskpilot run`."""

from taskpilot.domain.errors import ConfigurationError, NotFound, UsageError
from taskpilot.domain.fires import StartOrder
from taskpilot.domain.runs import FireOutcome
from taskpilot.ledger.claims import Claim, Hold, RunPlan
from taskpilot.operations.attempts import Display, RunChild
from taskpilot.operations.house import House
from taskpilot.operations.inputs import forget_run_dir
from taskpilot.operations.planning import RunRequest, plan_resume, plan_run
from taskpilot.operations.running import Finished, find_run, publish_change, skipped, supervised
from taskpilot.supervisor import Interrupts


def start_order(house: House, order: StartOrder, run_child: RunChild, display: Display) -> Finished | None:
    """Runs what was taken out of the queue; None where somebody was quicker, or it is in the queue again.

    What would fail every time takes it out of the queue for good, with the reason. Raises StoreError or StoreBusy.
    """
    try:
        plan = _plan(house, order)
    except (ConfigurationError, UsageError, NotFound) as error:
        if house.queue.close(order, FireOutcome.BLOCKED_CONFIG, str(error)):
            publish_change(house, order.job)
        return None
    with Interrupts() as interrupts:
        try:
            claim = house.ledger.claim(plan) if order.run_id is None else house.ledger.start_queued(plan)
        except BaseException:
            _forget(house, plan, order)
            raise
        if not isinstance(claim, Claim) or claim.run.id != plan.run_id:
            _forget(house, plan, order)
        if isinstance(claim, Hold):
            house.queue.put_back(order)
            return None
        if claim is None:
            return None
        if not isinstance(claim, Claim):
            return skipped(house, plan.spec, claim)
        return supervised(house, plan.spec, claim, run_child, display, interrupts)


def _plan(house: House, order: StartOrder) -> RunPlan:
    if order.run_id is not None:
        return plan_resume(house, find_run(house, order.run_id), None)
    assert order.scheduled_for is not None
    plan = plan_run(house, RunRequest(job=order.job, scheduled_for=order.scheduled_for.isoformat()))
    assert isinstance(plan, RunPlan)
    return plan


def _forget(house: House, plan: RunPlan, order: StartOrder) -> None:
    """The folder that was made for a run that is not to be; a queued run's own stays."""
    if order.run_id is None:
        forget_run_dir(house.run_dir(plan.run_id))
