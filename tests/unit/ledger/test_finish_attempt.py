"""What the end of an attempt leaves in the record: no open step, no open reservation, the last values."""

import pytest

from taskpilot import Budget, RunContext, job
from taskpilot.domain.chat import ChatRequest
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.store import runs
from taskpilot.testing import ScriptedModel
from tests.spine import NOON, Killed, Spine


def _die(request: ChatRequest) -> str:
    if request.messages[-1].content == "last":
        raise Killed
    return "fine"


def test_every_begun_step_of_a_dead_attempt_becomes_unknown(spine: Spine) -> None:
    @job(budget=Budget(usd="0.5", llm_calls=10))
    def dies(ctx: RunContext) -> None:
        ctx.ask("a", "first")
        ctx.step("outer", lambda: ctx.ask("a", "last"))

    run_id = spine.killed(dies, ScriptedModel(_die, name="gpt-4o"))
    statuses = {(step.kind, step.status) for step in spine.steps(run_id)}
    # The plain step around the last one is recorded with its end alone.
    assert statuses == {(StepKind.ASK, StepStatus.SUCCEEDED), (StepKind.ASK, StepStatus.UNKNOWN)}
    row = spine.row(run_id)
    assert row.reserved_nano == row.reserved_tokens == 0
    assert row.spent_nano == row.cost_nano == sum(step.cost_nano or 0 for step in spine.steps(run_id))
    assert sum(spine.total("taskpilot_llm_cost_usd_total").values()) == row.cost_nano


def test_an_unknown_call_of_one_agent_too_many_is_counted_under_other(spine: Spine) -> None:
    @job()
    def dies(ctx: RunContext) -> None:
        for number in range(20):
            ctx.ask(f"agent-{number}", "first")
        ctx.ask("one-too-many", "last")

    spine.killed(dies, ScriptedModel(_die, name="gpt-4o"))
    labels = spine.total("taskpilot_llm_cost_usd_total")
    assert '{"agent":"other","model":"gpt-4o"}' in labels
    assert not any("one-too-many" in label for label in labels)


@pytest.mark.parametrize(("status", "success"), [(RunStatus.SUCCEEDED, True), (RunStatus.FAILED, False), (RunStatus.DENIED, False)])
def test_the_last_values_of_a_job_follow_each_end_and_only_a_success_is_a_success(spine: Spine, status: RunStatus, success: bool) -> None:
    @job()
    def plain(ctx: RunContext) -> None:
        """Do nothing."""

    claim = spine.claim(plain)
    spine.ledger.end(claim.grant, Outcome(status), active_seconds=2, keep_lease=True)
    with spine.store.read() as connection:
        state = runs.job_state_row(connection, "plain")
    assert state is not None
    assert (state.last_status, state.last_duration_micros) == (status, 2_000_000)
    assert state.last_completion == int(NOON.timestamp()) * 1_000_000
    assert (state.last_success is not None) is success


def test_the_used_ratio_is_that_of_the_tightest_ceiling(spine: Spine) -> None:
    @job(budget=Budget(usd=1, llm_calls=4, tokens=10**6))
    def asks(ctx: RunContext) -> None:
        ctx.ask("a", "one")

    spine.run(asks, ScriptedModel(["x"], name="gpt-4o"))
    with spine.store.read() as connection:
        state = runs.job_state_row(connection, "asks")
    assert state is not None
    assert state.last_budget_used_micros == 250_000


def test_a_parked_run_is_no_completion(spine: Spine) -> None:
    @job()
    def plain(ctx: RunContext) -> None:
        """Do nothing."""

    claim = spine.claim(plain)
    spine.ledger.end(claim.grant, Outcome(RunStatus.WAITING, Reason(ReasonCode.APPROVAL)), active_seconds=2, keep_lease=True)
    with spine.store.read() as connection:
        state = runs.job_state_row(connection, "plain")
    assert state is not None
    assert (state.last_status, state.last_exit_code, state.last_completion) == (RunStatus.WAITING, 13, None)
    assert spine.total("taskpilot_runs_total") == {}
    assert spine.run_of(claim.run.id).ended_at is None
