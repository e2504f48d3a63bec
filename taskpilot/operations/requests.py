"""Runs that somebody asks a server for, and does not wait for."""

from collections.abc import Mapping
from typing import Any

from taskpilot.domain.errors import UsageError
from taskpilot.domain.runs import Run
from taskpilot.domain.text import one_line
from taskpilot.jobs.parameters import describe_parameters
from taskpilot.operations.house import House
from taskpilot.operations.inputs import forget_run_dir
from taskpilot.operations.planning import RunRequest, plan_run
from taskpilot.operations.running import publish_change


def enqueue_run(house: House, job: str, *, parameters: Mapping[str, Any], model: str | None = None) -> Run:
    """Puts a new run into the server's queue and gives it. The parameters are JSON values.

    Raises UsageError (an unknown job, or parameters that do not fit), ConfigurationError, or TransitionRefused where the job is paused or
    has an active run.
    """
    spec = house.catalog.get(job)
    files = [one.name for one in describe_parameters(spec) if one.input and one.name in parameters]
    if files:
        raise UsageError(
            f"parameter {one_line(', '.join(files))} names a file of the server's machine, which nobody may choose from elsewhere: "
            "leave it to the job's default, or type `taskpilot run` there"
        )
    plan = plan_run(house, RunRequest(job, values=parameters, model=model))
    assert not isinstance(plan, str), "a run that names no fire is always due"
    try:
        run = house.ledger.enqueue(plan)
    except BaseException:
        forget_run_dir(house.run_dir(plan.run_id))
        raise
    publish_change(house, run.job, run_id=run.id, model=run.model)
    return run
