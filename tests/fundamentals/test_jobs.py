"""What a job is, from its first line to its typed parameters. Read from top to bottom."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot import Retry, RunContext, TaskPilotError, at, cron, every, job
from taskpilot.testing import ManualClock, ScriptedModel, run_job


@job()
def greet(ctx: RunContext, name: str = "world", times: int = 1) -> str:
    """Greet somebody."""
    return " ".join([f"hello {name}"] * times)


def test_a_job_is_a_plain_function() -> None:
    no_context_needed: Any = None
    assert greet(no_context_needed, "Ada") == "hello Ada"


def test_a_run_of_it_has_a_status_a_result_and_an_exit_code() -> None:
    ran = run_job(greet)
    assert (ran.status, ran.result, ran.exit_code) == ("succeeded", "hello world", 0)


def test_parameters_are_typed_by_the_functions_own_annotations() -> None:
    assert run_job(greet, parameters={"name": "Ada", "times": 2}).result == "hello Ada hello Ada"


@pytest.mark.parametrize("parameters", [{"times": "many"}, {"nobody": "knows"}])
def test_an_ill_typed_or_unknown_parameter_is_refused_before_anything_runs(parameters: dict[str, object]) -> None:
    with pytest.raises(TaskPilotError) as refused:
        run_job(greet, parameters=parameters)
    assert refused.value.exit_code == 2


def test_an_exception_fails_the_run_and_is_its_reason() -> None:
    @job()
    def divides(ctx: RunContext) -> float:
        return 1 / 0

    ran = run_job(divides)
    assert (ran.status, ran.exit_code) == ("failed", 1)
    assert "division by zero" in ran.reason


def test_a_job_may_check_its_own_result() -> None:
    @job()
    def counts(ctx: RunContext, tickets: int = 2) -> None:
        ctx.require(tickets > 3, "more than three tickets")

    ran = run_job(counts)
    assert (ran.status, ran.exit_code, ran.reason_code) == ("failed", 15, "outcome_failed")
    assert "more than three tickets" in ran.reason


def test_a_job_knows_for_which_time_it_runs() -> None:
    @job()
    def says_when(ctx: RunContext) -> str:
        assert ctx.scheduled_for is not None
        return ctx.scheduled_for.isoformat()

    seven = datetime(2026, 11, 23, 7, tzinfo=UTC)
    assert run_job(says_when, scheduled_for=seven).result == "2026-11-23T07:00:00+00:00"


def test_a_job_asks_its_context_what_time_it_is() -> None:
    @job()
    def says_now(ctx: RunContext) -> str:
        return ctx.now().isoformat()

    clock = ManualClock(datetime(2026, 11, 23, tzinfo=UTC))
    clock.advance(timedelta(hours=7))
    assert run_job(says_now, now=clock).result == "2026-11-23T07:00:00+00:00"


@pytest.mark.parametrize(
    ("schedule", "next_fire"),
    [
        (cron("0 7 * * mon-fri", timezone="Europe/Berlin"), datetime(2026, 11, 23, 6, tzinfo=UTC)),
        (every("15m"), datetime(2026, 11, 22, 12, 15, tzinfo=UTC)),
        (at("2026-12-24T08:00+01:00"), datetime(2026, 12, 24, 7, tzinfo=UTC)),
    ],
)
def test_a_schedule_says_when_a_job_is_due_next(schedule: object, next_fire: datetime) -> None:
    sunday_noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert schedule.next_after(sunday_noon) == next_fire  # type: ignore[attr-defined]


def test_a_retry_gives_a_run_another_attempt() -> None:
    @job(retry=Retry(attempts=3))
    def third_time_lucky(ctx: RunContext) -> str:
        if ctx.attempt < 3:
            raise ConnectionError("not yet")
        return f"attempt {ctx.attempt}"

    assert run_job(third_time_lucky, attempts=3).result == "attempt 3"


def test_a_job_goes_on_where_its_last_success_left_off(tmp_path: Path) -> None:
    @job()
    def reads(ctx: RunContext, lines: list[str]) -> list[str]:
        seen = ctx.recall("seen") or 0
        ctx.remember("seen", len(lines))
        ctx.require("broken" not in lines, "every line can be read")
        return lines[seen:]

    def new_of(*lines: str) -> list[str] | None:
        new: list[str] | None = run_job(reads, parameters={"lines": list(lines)}, root=tmp_path).result
        return new

    assert new_of("a", "b") == ["a", "b"]
    assert new_of("a", "b", "broken") is None
    assert new_of("a", "b", "c") == ["c"]


def test_a_job_leaves_files() -> None:
    @job()
    def writes(ctx: RunContext) -> str:
        return ctx.artifact("digest.md", "# Today\n").name

    ran = run_job(writes)
    assert (ran.result, ran.artifacts) == ("digest.md", {"digest.md": b"# Today\n"})


def test_an_artifacts_name_is_a_plain_file_name() -> None:
    @job()
    def writes(ctx: RunContext) -> None:
        ctx.artifact("../../.bashrc", "")

    assert "is not an artifact name" in run_job(writes).reason


def test_a_job_is_tested_with_a_model_that_says_what_it_is_told() -> None:
    @job()
    def asks(ctx: RunContext) -> str:
        return ctx.ask("helper", "What is the capital of France?")

    model = ScriptedModel(["Paris"])
    assert run_job(asks, model=model).result == "Paris"
    assert model.requests[0].messages[-1].content == "What is the capital of France?"
