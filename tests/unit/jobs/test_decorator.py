"""`@job`: what it takes, what it refuses by name, and that the function stays a function."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import wraps
from typing import Any, get_args

import pytest

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.specs import DEFAULT_BUDGET, DEFAULT_DEADLINE, Budget, CatchUp, JobSpec, Overlap, Retry
from taskpilot.jobs.decorator import job, job_spec
from taskpilot.schedules.schedule import cron, every
from taskpilot.tools.decorator import tool
from tests.errors import saying


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
    assert spec == JobSpec(name="triage", function=spec.function, description="Reads an inbox.", line=spec.line)
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


@pytest.mark.parametrize("overlap", get_args(Overlap))
def test_every_overlap_of_the_contract_is_taken(overlap: Overlap) -> None:
    assert job_spec(job(overlap=overlap)(fresh())).overlap == overlap


@pytest.mark.parametrize("catch_up", get_args(CatchUp))
def test_every_way_to_catch_up_is_taken(catch_up: CatchUp) -> None:
    assert job_spec(job(catch_up=catch_up)(fresh())).catch_up == catch_up


def test_the_options_of_fires_are_read_as_written() -> None:
    spec = job_spec(
        job(
            start_deadline="5m",
            jitter=timedelta(seconds=30),
            catch_up_window="2h",
            catch_up_limit=3,
            catch_up_stagger="1m",
            pause_on_failure=4,
        )(fresh())
    )
    assert (spec.start_deadline, spec.jitter) == (timedelta(minutes=5), timedelta(seconds=30))
    assert (spec.catch_up_window, spec.catch_up_limit, spec.catch_up_stagger) == (timedelta(hours=2), 3, timedelta(minutes=1))
    assert spec.pause_on_failure == 4


@pytest.mark.parametrize(("value", "failures"), [(None, None), (False, None), (True, 1), (1, 1)])
def test_pause_on_failure_is_a_number_of_runs_and_true_is_one(value: int | bool | None, failures: int | None) -> None:
    assert job_spec(job(pause_on_failure=value)(fresh())).pause_on_failure == failures


def test_none_is_the_default_of_what_has_no_value() -> None:
    spec = job_spec(job(start_deadline=None, jitter=None, pause_on_failure=None)(fresh()))
    assert spec == JobSpec(name="triage", function=spec.function, description="Reads an inbox.", line=spec.line)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shedule": None}, "no option 'shedule'; did you mean 'schedule'"),
        ({"retrys": 3}, "no option 'retrys'; did you mean 'retry'"),
        ({"daily_budget": Budget()}, "no option 'daily_budget'$"),
        ({"gate": fresh}, "no option 'gate'$"),
        ({"overlap": "never"}, "overlap='never' is not known"),
        ({"overlap": None}, "overlap=None is not known"),
        ({"catch_up": True}, "catch_up=True is not known"),
        ({"schedule": "0 7 * * *"}, "schedule='0 7"),
        ({"deadline": "soon"}, "deadline: 'soon' is not a duration"),
        ({"deadline": 90}, "deadline: 90 is not a duration"),
        ({"deadline": "0s"}, "deadline: '0s' is not longer"),
        ({"catch_up_window": "x"}, "catch_up_window: 'x'"),
        ({"start_deadline": "soon"}, "start_deadline: 'soon' is not a duration"),
        ({"start_deadline": 5}, "start_deadline: 5 is not a duration"),
        ({"jitter": "-1s"}, "jitter: '-1s'"),
        ({"catch_up_stagger": 1}, "catch_up_stagger: 1 is not a duration"),
        ({"catch_up_limit": 0}, "catch_up_limit=0 must be a whole number, at least 1"),
        ({"catch_up_limit": True}, "catch_up_limit=True must be a whole number"),
        ({"catch_up_limit": None}, "catch_up_limit=None must be a whole number"),
        ({"pause_on_failure": 0}, "pause_on_failure=0 must be a whole number, at least 1"),
        ({"pause_on_failure": "yes"}, "pause_on_failure='yes' must be a whole number"),
        ({"retry": 3}, r"retry=3 is not valid; write Retry\(attempts=3\)"),
        ({"budget": 0.5}, "budget=0.5 is not valid"),
        ({"model": ""}, "model='' is not a name"),
        ({"model": 4}, "model=4 is not a name"),
        ({"tools": "open_ticket"}, "must be a list"),
        ({"tools": [plain]}, "plain in tools is not a tool; put @tool above it"),
        ({"tools": [None]}, "None in tools is not a tool"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, check=saying(says)):
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
    with pytest.raises(ConfigurationError, check=saying(says)):
        job(function)


def test_the_context_is_known_by_its_name_or_its_type() -> None:
    def by_type(run: "RunContext") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - as a file that imports it for the type checker only

    def unused(_ctx: object) -> None: ...

    assert [job_spec(job(function)).name for function in (by_type, unused)] == ["by_type", "unused"]


def test_a_function_without_the_decorator_is_no_job() -> None:
    with pytest.raises(ConfigurationError, check=saying("put @job above it")):
        job_spec(fresh())


def test_a_decorator_above_job_is_not_silently_left_out() -> None:
    decorated = job(fresh())

    @wraps(decorated)
    def outer(*args: Any) -> str:
        return decorated(*args)

    with pytest.raises(ConfigurationError, check=saying("put @job at the top")):
        job_spec(outer)


def test_decorating_needs_no_pydantic() -> None:
    """Checked in an interpreter of its own: this one has long loaded it."""
    code = (
        "import sys, taskpilot.jobs.decorator, taskpilot.jobs.loader, taskpilot.jobs.parameters\n"
        "from taskpilot.schedules.schedule import cron\n"
        "cron('@daily')\n"
        "print('pydantic' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
