"""`@job`: what it takes, what it refuses by name, and that the function stays a function."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import wraps
from typing import Any

import pytest

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.schedule import cron, every
from taskpilot.domain.specs import DEFAULT_BUDGET, DEFAULT_DEADLINE, Budget, JobSpec, Retry
from taskpilot.jobs.decorator import job, job_spec
from taskpilot.tools.decorator import tool


def plain(ctx: object, inbox: str = "inbox.jsonl") -> str:
    """Reads an inbox.

    And more.
    """
    return f"{ctx} {inbox}"


@tool(idempotent=True)
def open_ticket(title: str) -> str:
    """Open a ticket."""
    return title


def fresh(name: str = "triage") -> Callable[..., str]:
    def function(ctx: object, inbox: str = "inbox.jsonl") -> str:
        """Reads an inbox."""
        return f"{ctx} {inbox}"

    function.__name__ = name
    return function


def test_a_job_stays_the_function_that_it_was() -> None:
    decorated = job(plain)
    assert decorated is plain
    assert decorated("now", inbox="x") == "now x"
    assert job(schedule=every("15m"))(plain)("now") == "now inbox.jsonl"


def test_without_options_a_job_gets_the_defaults() -> None:
    spec = job_spec(job(fresh()))
    assert spec == JobSpec(name="triage", function=spec.function, description="Reads an inbox.")
    assert (spec.deadline, spec.retry.attempts, spec.overlap, spec.catch_up) == (DEFAULT_DEADLINE, 1, "skip", "last")
    assert spec.ceilings == DEFAULT_BUDGET


def test_the_contracts_example_is_read_as_written() -> None:
    spec = job_spec(
        job(
            schedule=cron("0 7 * * mon-fri", timezone="Europe/Berlin"),
            deadline="15m",
            retry=Retry(attempts=3),
            overlap="skip",
            catch_up="last",
            budget=Budget(usd="0.50", tokens=200_000, llm_calls=60),
            model="gpt-4o-mini",
            tools=[open_ticket],
        )(fresh())
    )
    assert spec.schedule == cron("0 7 * * mon-fri", timezone="Europe/Berlin")
    assert spec.deadline == timedelta(minutes=15)
    assert spec.retry == Retry(attempts=3)
    assert spec.ceilings == Budget(usd="0.50", tokens=200_000, llm_calls=60)
    assert spec.model == "gpt-4o-mini"
    assert [(tool.name, tool.idempotent, tool.function) for tool in spec.tools] == [("open_ticket", True, open_ticket)]


def test_a_job_may_have_another_name_than_its_function() -> None:
    assert job_spec(job(name="nightly_triage")(fresh())).name == "nightly_triage"


@pytest.mark.parametrize("name", ["Triage", "1st", "_x", "a-b", "", "a" * 64, "naïve", "a\n", "<lambda>"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not a job name"):
        job(name=name)(fresh())
    with pytest.raises(ConfigurationError, match="not a job name"):
        job(fresh(name))


@pytest.mark.parametrize("overlap", ["buffer_one", "buffer_all", "cancel_other", "terminate_other"])
def test_an_overlap_of_a_later_version_is_refused_by_name(overlap: Any) -> None:
    with pytest.raises(ConfigurationError, match=f'overlap=\'{overlap}\' is not implemented in this version.*"skip" or "allow_all"'):
        job(overlap=overlap)(fresh())


@pytest.mark.parametrize("catch_up", ["skip", "all"])
def test_a_catch_up_of_a_later_version_is_refused_by_name(catch_up: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"catch_up='{catch_up}' is not implemented in this version"):
        job(catch_up=catch_up)(fresh())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("start_deadline", "5m"),
        ("jitter", "30s"),
        ("pause_on_failure", True),
        ("pause_on_failure", 3),
        ("catch_up_limit", 10),
        ("catch_up_stagger", 1),
    ],
)
def test_an_option_of_a_later_version_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{option} is not implemented in this version"):
        job(**{option: value})(fresh())  # type: ignore[call-overload]


def test_the_default_of_an_option_of_a_later_version_is_accepted() -> None:
    job(start_deadline=None, jitter=None, pause_on_failure=False, catch_up_limit=None, overlap="skip", catch_up="last")(fresh())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shedule": None}, "no option 'shedule'"),
        ({"overlap": "never"}, "overlap='never' is not known"),
        ({"overlap": None}, "overlap=None is not known"),
        ({"catch_up": True}, "catch_up=True is not known"),
        ({"schedule": "0 7 * * *"}, "schedule='0 7"),
        ({"deadline": "soon"}, "deadline: 'soon' is not a duration"),
        ({"deadline": 90}, "deadline: 90 is not a duration"),
        ({"deadline": "0s"}, "deadline: '0s' is not longer"),
        ({"catch_up_window": "x"}, "catch_up_window: 'x'"),
        ({"retry": 3}, r"retry=3 is not understood; write Retry\(attempts=3\)"),
        ({"retry": Retry(attempts=0)}, "at least 1"),
        ({"retry": Retry(attempts=True)}, "whole number"),
        ({"budget": 0.5}, "budget=0.5 is not understood"),
        ({"model": ""}, "model='' is not a name"),
        ({"model": 4}, "model=4 is not a name"),
        ({"tools": "open_ticket"}, "must be a list"),
        ({"tools": [plain]}, "plain in tools is not a tool; put @tool above it"),
        ({"tools": [None]}, "None in tools is not a tool"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        job(**options)(fresh())


def test_one_tool_name_stands_once_in_a_job() -> None:
    with pytest.raises(ConfigurationError, match="two tools with the name 'open_ticket'"):
        job_spec(job(tools=[open_ticket, open_ticket])(fresh()))


async def asynchronous(ctx: object) -> None: ...
async def asynchronous_generator(ctx: object) -> AsyncIterator[int]:
    yield 1


def generator(ctx: object) -> Iterator[int]:
    yield 1


def no_context() -> None: ...
def forgotten_context(inbox: str) -> None: ...
def keyword_context(*, ctx: object) -> None: ...
def spread(ctx: object, *names: str) -> None: ...
def keywords(ctx: object, **names: str) -> None: ...
def untyped(ctx, inbox="x"): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
def positional(ctx: object, inbox: str, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (asynchronous, "asynchronous"),
        (asynchronous_generator, "asynchronous"),
        (generator, "generator"),
        (no_context, "context first"),
        (forgotten_context, "context first"),
        (keyword_context, "context first"),
        (spread, r"\*names"),
        (keywords, r"\*\*names"),
        (untyped, "'inbox' has no type"),
        (positional, "'inbox' is positional-only"),
        (print, "plain functions"),
        (Retry, "not a job name"),
    ],
)
def test_a_function_that_cannot_be_a_job_is_refused(function: Callable[..., Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        job(function)


def test_the_context_is_known_by_its_name_or_its_type() -> None:
    def by_type(run: "RunContext") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - as a file that imports it for the type checker only

    def unused(_ctx: object) -> None: ...

    assert [job_spec(job(function)).name for function in (by_type, unused)] == ["by_type", "unused"]


def test_a_function_without_the_decorator_is_no_job() -> None:
    with pytest.raises(ConfigurationError, match="put @job above it"):
        job_spec(fresh())


def test_a_decorator_above_job_is_not_silently_left_out() -> None:
    decorated = job(fresh())

    @wraps(decorated)
    def outer(*args: Any) -> str:
        return decorated(*args)

    with pytest.raises(ConfigurationError, match="put @job at the top"):
        job_spec(outer)


def test_decorating_needs_no_pydantic() -> None:
    """Checked in an interpreter of its own: this one has long loaded it."""
    code = (
        "import sys, taskpilot.jobs.decorator, taskpilot.jobs.loader, taskpilot.jobs.parameters\n"
        "from taskpilot.domain.schedule import cron\n"
        "cron('@daily')\n"
        "print('pydantic' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
