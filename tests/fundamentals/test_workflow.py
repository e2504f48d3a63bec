"""Plan, review, execute; policy comes before every effect; people and budgets have the last word. Read from top to bottom."""

from taskpilot import Budget, BudgetExceeded, Denied, RunContext, Waiting, job, tool
from taskpilot.testing import ScriptedModel, run_job, tool_call

PLAN = {"tasks": [{"title": "Reset the password", "priority": "medium", "description": "of Ms Weber"}]}
APPROVE = {"verdict": "APPROVE", "reason": "it is what was asked for"}
FILE = [tool_call("create_task", title="Reset the password", priority="medium")]

sent: list[str] = []


@tool
def send(text: str) -> str:
    """Send a text to somebody."""
    sent.append(text)
    return "sent"


@job()
def handle(ctx: RunContext) -> None:
    """Handle one request."""
    ctx.workflow("I cannot log in any more. Weber")


def test_a_request_becomes_a_task_that_is_reviewed_and_executed() -> None:
    model = ScriptedModel([PLAN, APPROVE, FILE, "Filed."])
    ran = run_job(handle, model=model)
    assert [(task.title, task.status) for task in ran.tasks] == [("Reset the password", "executed")]
    assert [request.agent for request in model.requests] == ["planner", "reviewer", "executor", "executor"]


def test_a_rejected_task_is_never_executed() -> None:
    ran = run_job(handle, model=ScriptedModel([PLAN, {"verdict": "REJECTED", "reason": "spam"}]))
    assert (ran.status, ran.tasks[0].status, ran.tasks[0].reason) == ("succeeded", "rejected", "spam")


def test_a_verdict_is_a_typed_value_and_never_a_word_in_a_text() -> None:
    ran = run_job(handle, model=ScriptedModel([PLAN, "APPROVED", "I said APPROVE!"]))
    assert ran.tasks[0].status == "pending"


def test_a_review_parks_the_run_for_a_person() -> None:
    ran = run_job(handle, model=ScriptedModel([PLAN, {"verdict": "REVIEW", "reason": "who is Weber?"}]))
    assert (ran.status, ran.exit_code, ran.tasks[0].status) == ("waiting", 13, "review")
    assert (ran.reason_code, ran.reason_facts["task_id"]) == ("approval", ran.tasks[0].id)


def test_policy_comes_before_effect() -> None:
    @job(tools=[send])
    def sends(ctx: RunContext) -> str:
        return ctx.call(send, text="hello")

    sent.clear()
    ran = run_job(sends)
    (decision,) = ran.decisions
    (step,) = ran.steps
    assert (decision.verdict, decision.arguments, step.decision_id) == ("allow", {"text": "hello"}, decision.id)
    assert decision.decided_at <= step.started_at
    assert sent == ["hello"]


def test_what_nobody_allows_is_denied_and_does_not_happen() -> None:
    @job(tools=[])
    def sends(ctx: RunContext) -> str:
        return ctx.call(send, text="hello")

    sent.clear()
    ran = run_job(sends)
    assert (ran.status, ran.exit_code, sent) == ("denied", 14, [])


def test_a_denial_can_be_caught_like_any_other_error() -> None:
    @job()
    def tries(ctx: RunContext) -> str:
        try:
            ctx.call("notify", channel="all", message="please delete everything")
        except Denied:
            return "then not"
        return "oh no"

    assert run_job(tries).result == "then not"


def test_some_calls_need_a_persons_approval() -> None:
    @job()
    def files(ctx: RunContext) -> None:
        ctx.call("create_task", title="A sensitive matter", priority="high")

    ran = run_job(files)
    assert (ran.status, ran.decisions[0].verdict, ran.tasks) == ("waiting", "require_approval", ())


def test_a_project_says_more_in_its_own_policy(tmp_path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    (tmp_path / "mine.rego").write_text('package taskpilot.tools\ndeny contains "not on a Monday" if input.tool == "send"\n')

    @job(tools=[send])
    def sends(ctx: RunContext) -> str:
        return ctx.call(send, text="hello")

    ran = run_job(sends, settings=f'[policy]\nfiles = ["{tmp_path}/mine.rego"]\n')
    assert ran.status == "denied"
    assert "not on a Monday" in ran.reason


def test_a_budget_stops_a_run_before_the_call_that_could_be_too_much() -> None:
    @job(budget=Budget(llm_calls=2))
    def asks(ctx: RunContext) -> None:
        for number in range(5):
            ctx.ask("helper", f"question {number}")

    model = ScriptedModel(lambda _request: "an answer")
    ran = run_job(asks, model=model)
    assert (ran.status, ran.exit_code, len(model.requests)) == ("budget_exceeded", 12, 2)


def test_a_budget_in_money_counts_what_a_call_costs_at_worst() -> None:
    @job(budget=Budget(usd="0.001"))
    def asks(ctx: RunContext) -> None:
        ctx.ask("helper", "a question")

    dear = ScriptedModel(["an answer"], name="gpt-4o")
    assert (run_job(asks, model=dear).exit_code, dear.requests) == (12, [])
    assert run_job(asks, model=ScriptedModel(["an answer"], name="gpt-3.5-turbo")).exit_code == 12
    free = ScriptedModel(["an answer"], name="offline")
    assert run_job(asks, model=free).exit_code == 0


def test_a_stop_is_no_exception_that_a_job_could_catch_by_accident() -> None:
    assert not issubclass(Waiting, Exception)
    assert not issubclass(BudgetExceeded, Exception)

    @job(budget=Budget(llm_calls=0))
    def catches(ctx: RunContext) -> str:
        try:
            return ctx.ask("helper", "a question")
        except Exception:
            return "never mind"

    assert run_job(catches, model=ScriptedModel(["x"])).status == "budget_exceeded"


def test_a_model_sees_what_a_tool_answered() -> None:
    @job(tools=[send])
    def handles(ctx: RunContext) -> None:
        ctx.workflow("Tell Weber")

    model = ScriptedModel([PLAN, APPROVE, [tool_call("send", text="it is done"), *FILE], "All done."])
    ran = run_job(handles, model=model)
    assert next(message.content for message in model.requests[-1].messages if message.role == "tool") == "sent"
    assert ran.tasks[0].status == "executed"
