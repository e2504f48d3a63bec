"""Right and wrong uses of the public API, read by mypy alone: `# E:` gives its line's error; other lines must have none."""

from datetime import timedelta
from typing import Any, assert_type

from pydantic import BaseModel

from taskpilot import (
    Budget,
    InputFile,
    ItemError,
    ModelUnavailable,
    Priority,
    Retry,
    RunContext,
    RunLogger,
    RunStatus,
    TaskResult,
    TaskStatus,
    WorkflowResult,
    at,
    cron,
    every,
    job,
    tool,
)
from taskpilot.testing import JobResult, ScriptedModel, run_job


class Reading(BaseModel):
    summary: str


@tool
def count(text: str) -> int:
    """Count characters."""
    return len(text)


@tool(idempotent=True, name="ticket")
def open_ticket(title: str, priority: str) -> str:
    """Open a ticket."""
    return f"{title} {priority}"


@job
def bare(ctx: RunContext) -> None: ...


@job()
def empty(ctx: RunContext) -> None: ...


@job(
    schedule=cron("0 7 * * mon-fri", timezone="Europe/Berlin"),
    deadline="15m",
    retry=Retry(attempts=3, delay="30s", max_delay=timedelta(minutes=5), on=(ConnectionError, ModelUnavailable)),
    overlap="skip",
    catch_up="last",
    catch_up_window=timedelta(hours=2),
    catch_up_limit=3,
    catch_up_stagger="1m",
    start_deadline="5m",
    jitter="30s",
    pause_on_failure=True,
    budget=Budget(usd="0.50", tokens=200_000, llm_calls=60, tool_calls=10, unpriced="allow"),
    model="gpt-4o-mini",
    tools=[count, open_ticket],
    name="nightly",
)
def whole(ctx: RunContext, inbox: InputFile = "inbox.jsonl", limit: int = 3) -> str:
    return inbox * limit


@job(schedule=every("15m"))
def often(ctx: RunContext) -> int:
    return 1


@job(schedule=at("2026-12-24T08:00+01:00"), retry=Retry(2, on=OSError))
def once(ctx: RunContext) -> None: ...


def length(text: str) -> int:
    return len(text)


@job()
def uses_all(ctx: RunContext) -> None:
    result = ctx.workflow("do it")
    assert_type(result, WorkflowResult)
    assert_type(result.tasks, tuple[TaskResult, ...])
    assert_type(result.tasks[0].status, TaskStatus)
    assert_type(result.tasks[0].priority, Priority)
    assert_type(ctx.map(ctx.workflow, ["a", "b"], concurrency=8), list[WorkflowResult])
    assert_type(ctx.map(length, ["a"], on_error="raise"), list[int])
    collected = ctx.map(length, ["a"], on_error="collect")
    assert_type(collected, list[int | ItemError])
    assert_type([one for one in collected if not isinstance(one, ItemError)], list[int])
    assert_type(ctx.map(lambda text: text.upper(), ["a"]), list[str])
    assert_type(ctx.ask("planner", "hello"), str)
    assert_type(ctx.ask("planner", "hello", Reading), Reading)
    assert_type(ctx.ask("planner", "hello", output=Reading, system="be short").summary, str)
    assert_type(ctx.step("count", length, "a"), int)
    assert_type(ctx.step("greet", str, "hello"), str)
    assert_type(ctx.call(count, text="a"), int)
    assert_type(ctx.call("notify", channel="ops", message="done"), Any)
    assert_type(ctx.log, RunLogger)
    ctx.log.info("read %d lines of %s", 7, "inbox", took="1s")
    ctx.log.error("it failed")
    ctx.log.infos("read")  # E: has no attribute "infos"
    ctx.workflows("do it")  # E: has no attribute "workflows"
    ctx.map(length, [1, 2])  # E: Argument 1 to "map" of "RunContext" has incompatible type
    ctx.map(length, ["a"], on_errors="collect")  # E: Unexpected keyword argument "on_errors" ;; No overload variant of "map"
    ctx.map(length, ["a"], on_error="ignore")  # E: No overload variant
    ctx.ask("planner", "hello", output=int)  # E: Value of type variable "Shape" of "ask" of "RunContext" cannot be "int"
    ctx.progress("1", 2)  # E: Argument 1 to "progress"
    ctx.log.info("%s", result.task)  # E: has no attribute "task"; maybe "tasks"?


def wrong_options() -> None:
    job(schedul=None)  # E: Unexpected keyword argument "schedul"
    job(schedule="0 7 * * *")  # E: No overload variant of "job" matches argument type "str"
    job(deadline=15)  # E: No overload variant of "job" matches argument type "int"
    job(retry=3)  # E: No overload variant of "job" matches argument type "int"
    job(retrys=3)  # E: Unexpected keyword argument "retrys"
    job(overlap="never")  # E: No overload variant of "job" matches argument type "str"
    job(daily_budget=Budget(usd="1"))  # E: Unexpected keyword argument "daily_budget"
    job(tools=[3])  # E: List item 0 has incompatible type "int"; expected "Callable[..., Any]"
    tool(idempotant=True)  # E: Unexpected keyword argument "idempotant"
    tool(idempotent="yes")  # E: No overload variant of "tool" matches argument type "str"
    Budget(usdd="1")  # E: Unexpected keyword argument "usdd"
    Budget(usd=0.5)  # E: Argument "usd" to "Budget" has incompatible type "float"
    Budget(tokens="many")  # E: Argument "tokens" to "Budget" has incompatible type "str"
    Budget(unpriced="maybe")  # E: Argument "unpriced" to "Budget" has incompatible type
    Retry(attemps=3)  # E: Unexpected keyword argument "attemps"
    Retry(attempts="3")  # E: Argument "attempts" to "Retry" has incompatible type "str"
    Retry(delay=30)  # E: Argument "delay" to "Retry" has incompatible type "int"
    Retry(on=("ConnectionError",))  # E: Argument "on" to "Retry" has incompatible type
    Retry(on=KeyboardInterrupt)  # E: Argument "on" to "Retry" has incompatible type
    cron("@daily", timezon="UTC")  # E: Unexpected keyword argument "timezon"


def a_decorated_function_is_called_as_before(ctx: RunContext) -> None:
    assert_type(whole(ctx, inbox="a", limit=2), str)
    assert_type(often(ctx), int)
    assert_type(count("a"), int)
    bare()  # E: Missing positional argument "ctx"
    whole(ctx, limit="2")  # E: Argument "limit" to "whole" has incompatible type "str"
    open_ticket("a")  # E: Missing positional argument "priority"
    count(text=1)  # E: Argument "text" to "count" has incompatible type "int"


def test_of_a_job() -> None:
    result = run_job(whole, model=ScriptedModel(["a"]), parameters={"limit": 3})
    assert_type(result, JobResult)
    assert_type(result.result, Any)
    assert_type(result.status, RunStatus)
    run_job(whole, modle=None)  # E: Unexpected keyword argument "modle"
