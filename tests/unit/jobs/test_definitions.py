"""A definition as data says all that the job's file says, but its functions."""

import json
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

from taskpilot import Budget, Retry, RunContext, cron, job, tool
from taskpilot.domain.specs import JobSpec, not_loaded
from taskpilot.jobs.decorator import job_spec
from taskpilot.jobs.definitions import definition_json, definition_of
from taskpilot.jobs.parameters import complete_parameters


@tool(idempotent=True, approval_timeout="1h")
def ticket(title: str, count: int = 1) -> str:
    """Open a ticket."""
    return title * count


@job(
    schedule=cron("0 7 * * mon-fri", timezone="Europe/Berlin"),
    deadline="15m",
    retry=Retry(attempts=3, delay="5s", on=(ConnectionError,)),
    overlap="buffer_one",
    overlap_waiting="ignore",
    approval_timeout="next_fire",
    catch_up="all",
    catch_up_window="2h",
    catch_up_limit=3,
    catch_up_stagger="4s",
    start_deadline="1h",
    jitter="1m",
    pause_on_failure=2,
    notify=["ops"],
    ping_url="https://example.org/uuid",
    budget=Budget(usd="0.50", tokens=10, unpriced="allow"),
    task_tool_calls=7,
    model="a-model",
    tools=[ticket],
)
def everything(ctx: RunContext, number: int, names: list[str] | None = None) -> None:
    """Use every option."""


def test_every_option_comes_through_json() -> None:
    spec = job_spec(everything)
    data = json.loads(json.dumps(definition_json(spec)))
    read = definition_of(data, file=Path("a.py"), digest="d")
    assert read == replace(
        spec,
        function=not_loaded,
        retry=Retry(attempts=3, delay="5s"),
        tools=tuple(replace(one, function=not_loaded) for one in spec.tools),
        file=Path("a.py"),
        file_digest="d",
        parameters=complete_parameters(spec),
    )
    # No option of the job above has its default: a new one has to be added to it.
    default = JobSpec(name="", function=not_loaded, description="")
    same = [one.name for one in fields(JobSpec) if getattr(read, one.name) == getattr(default, one.name)]
    assert same == ["function"]
    assert read.jitter == timedelta(minutes=1)
