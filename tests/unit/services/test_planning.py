"""From a request to a plan: everything that can be wrong is said before anything is claimed, and nothing is left behind."""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError, UsageError
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import TriggerKind
from taskpilot.ledger.claims import RunPlan
from taskpilot.messages.budgets import budget_of
from taskpilot.services.inputs import INPUT_MAX_BYTES, copy_inputs
from taskpilot.services.planning import RunRequest, plan_run
from taskpilot.testing import ManualClock
from tests.errors import saying

JOBS = """
from taskpilot import Budget, InputFile, RunContext, cron, job

@job(schedule=cron("0 7 * * *", timezone="Europe/Berlin"), model="offline")
def daily(ctx: RunContext, inbox: InputFile = "inbox.txt", count: int = 3) -> None: ...

@job(budget=Budget(usd="0.10"))
def dear(ctx: RunContext) -> None: ...

@job
def plain(ctx: RunContext) -> None: ...
"""
NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
MakeHouse = Callable[..., Deployment]


@pytest.fixture
def make(tmp_path: Path) -> MakeHouse:
    def made(settings: str = "", **environ: str) -> Deployment:
        root = tmp_path / "root"
        (root / "jobs").mkdir(parents=True, exist_ok=True)
        (root / "taskpilot.toml").write_text(settings)
        (root / "jobs" / "all.py").write_text(JOBS)
        (root / "inbox.txt").write_text("one\n")
        return Deployment(load(root=root, environ=environ), now=ManualClock(NOW))

    return made


def planned(deployment: Deployment, **request: object) -> RunPlan:
    plan = plan_run(deployment, RunRequest(**request))  # type: ignore[arg-type]
    assert isinstance(plan, RunPlan), plan
    return plan


def test_a_plan_has_typed_parameters_and_a_copy_of_its_input(make: MakeHouse) -> None:
    deployment = make()
    plan = planned(deployment, job="daily", parameters=[("count", "5")])
    copy = Path(plan.parameters["inbox"])
    assert (plan.parameters["count"], plan.model, plan.trigger, plan.scheduled_for) == (5, "offline", TriggerKind.MANUAL, None)
    assert copy == deployment.run_dir(plan.run_id) / "inputs" / "inbox.txt"
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == ("one\n", 0o600)


def test_standard_input_is_copied_too(make: MakeHouse) -> None:
    plan = planned(make(), job="daily", parameters=[("inbox", "-")], stdin=io.BytesIO(b"piped"))
    assert Path(plan.parameters["inbox"]).read_bytes() == b"piped"


def test_a_typed_file_is_looked_for_where_the_person_stands_first(make: MakeHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = make()
    (tmp_path / "inbox.txt").write_text("here\n")
    monkeypatch.chdir(tmp_path)
    assert Path(planned(deployment, job="daily", parameters=[("inbox", "inbox.txt")]).parameters["inbox"]).read_text() == "here\n"
    assert Path(planned(deployment, job="daily").parameters["inbox"]).read_text() == "one\n"


@pytest.mark.parametrize("parameters", [[("inbox", "missing.txt")], [("inbox", "-")], [("inbox", "")], [("inbox", "jobs")]])
def test_an_input_that_cannot_be_read_is_a_usage_error_and_leaves_no_folder(make: MakeHouse, parameters: list[tuple[str, str]]) -> None:
    deployment = make()
    with pytest.raises(UsageError):
        plan_run(deployment, RunRequest(job="daily", parameters=parameters))
    assert not list((deployment.settings.state_dir / "runs").glob("*"))


def test_an_endless_input_is_refused(tmp_path: Path) -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return bytes(1 << 20)

    with pytest.raises(UsageError, match=f"{INPUT_MAX_BYTES >> 20} MiB"):
        copy_inputs(["inbox"], {"inbox": "-"}, typed=frozenset(), root=tmp_path, run_dir=tmp_path, stdin=Endless())


@pytest.mark.parametrize(
    "parameters", [[("nope", "1")], [("count", "many")], [("count", "1"), ("count", "2")]], ids=["unknown", "ill-typed", "twice"]
)
def test_wrong_parameters_are_usage_errors(make: MakeHouse, parameters: list[tuple[str, str]]) -> None:
    with pytest.raises(UsageError):
        plan_run(make(), RunRequest(job="daily", parameters=parameters))


def test_auto_is_the_latest_fire_within_the_window(make: MakeHouse) -> None:
    deployment = make()
    plan = planned(deployment, job="daily", scheduled_for="auto")
    assert (plan.scheduled_for, plan.trigger) == (datetime(2026, 11, 23, 6, 0, tzinfo=UTC), TriggerKind.SCHEDULE)


def test_auto_with_no_fire_in_the_window_is_nothing_to_do(make: MakeHouse) -> None:
    deployment = make()
    deployment.now.advance(timedelta(hours=13))  # type: ignore[attr-defined]
    nothing = plan_run(deployment, RunRequest(job="daily", scheduled_for="auto"))
    assert isinstance(nothing, Reason)
    assert (nothing.code, nothing.facts["window_seconds"]) == (ReasonCode.NOTHING_DUE, 12 * 3600)


@pytest.mark.parametrize("text", ["tomorrow", "2026-12-24T08:00", "", "0001-01-01T00:00+14:00", "2026-13-01T00:00Z"])
def test_a_fire_that_is_no_instant_is_a_usage_error(make: MakeHouse, text: str) -> None:
    with pytest.raises(UsageError, match="scheduled-for"):
        plan_run(make(), RunRequest(job="daily", scheduled_for=text))


def test_a_job_without_a_schedule_has_no_auto(make: MakeHouse) -> None:
    with pytest.raises(UsageError, match="no schedule"):
        plan_run(make(), RunRequest(job="plain", scheduled_for="auto"))


def test_the_model_is_the_typed_one_else_the_jobs_else_the_settings(make: MakeHouse) -> None:
    key = {"OPENAI_API_KEY": "sk-x"}
    assert planned(make('model = "m"', **key), job="daily", model="typed").model == "typed"
    assert planned(make('model = "m"', **key), job="daily").model == "offline"
    assert planned(make('model = "m"', **key), job="plain").model == "m"
    assert planned(make(**key), job="plain").model is None


def test_no_way_to_a_model_is_said_before_the_claim(make: MakeHouse) -> None:
    with pytest.raises(ConfigurationError, check=saying("--model offline")):
        plan_run(make(), RunRequest(job="plain", model="gpt-4o"))


def test_a_budget_in_usd_needs_a_price(make: MakeHouse) -> None:
    with pytest.raises(ConfigurationError, check=saying(r"prices\.toml")):
        plan_run(make(OPENAI_API_KEY="sk-x"), RunRequest(job="dear", model="home-made"))
    assert planned(make(OPENAI_API_KEY="sk-x"), job="dear", model="gpt-4o").ceilings["ceiling_nano"] == 100_000_000


def test_the_default_budget_says_that_it_is_the_default_one(make: MakeHouse) -> None:
    plan = planned(make(), job="plain")
    assert plan.ceilings == {"ceiling_nano": 1_000_000_000, "ceiling_tokens": None, "ceiling_llm_calls": 200, "ceiling_tool_calls": 200}
    assert budget_of(plan.spec) == "1 USD, 200 LLM calls, 200 tool calls a run (the default; the job sets none); 20 tool calls a task"


def test_a_params_file_gives_what_is_not_typed(make: MakeHouse, tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"count": 9}')
    assert planned(make(), job="daily", parameters_file=file).parameters["count"] == 9
    assert planned(make(), job="daily", parameters_file=file, parameters=[("count", "1")]).parameters["count"] == 1
    file.write_text("[1]")
    with pytest.raises(UsageError, match=r"params\.json"):
        plan_run(make(), RunRequest(job="daily", parameters_file=file))


def test_a_broken_policy_is_said_before_the_claim(make: MakeHouse) -> None:
    (make().settings.root / "mine.rego").write_text("package taskpilot.tools\nallow if {")
    deployment = make('[policy]\nfiles = ["mine.rego"]\n')
    with pytest.raises(ConfigurationError, match=r"mine\.rego"):
        plan_run(deployment, RunRequest(job="plain"))
