"""Ceilings of a run: each one stops it with 12 and nothing past it; what a model costs, and what is said where nobody knows."""

import json
from dataclasses import replace

import pytest

from tests.command import TaskPilot
from tests.servers.openai_answers import Answer, Body, Tokens, disconnect, text, tool_calls, triage_brain, wanted
from tests.servers.openai_server import OpenAIServer
from tests.servers.ports import free_port

ANSWER = Tokens(prompt=400, cached=100, completion=3_000)
ANSWER_NANO = 300 * 150 + 100 * 75 + 3_000 * 600
"""gpt-4o-mini: 0.15, 0.075 and 0.60 USD per million tokens."""

JOBS = '''
from pathlib import Path

from taskpilot import Budget, RunContext, job, tool


@tool(idempotent=True)
def ping(number: int) -> str:
    """Ping."""
    with Path("pings.txt").open("a") as pings:
        pings.write(f"{number}\\n")
    return "pong"


def ask_all(ctx: RunContext, count: int, concurrency: int) -> int:
    return len(ctx.map(lambda number: ctx.ask("clerk", f"Say {number}."), range(count), concurrency=concurrency))


@job(model="gpt-4o-mini", budget=Budget(usd="0.02"))
def usd(ctx: RunContext, count: int = 40, concurrency: int = 8) -> int:
    return ask_all(ctx, count, concurrency)


@job(model="gpt-4o-mini", budget=Budget(tokens=40_000))
def tokens(ctx: RunContext, count: int = 40, concurrency: int = 8) -> int:
    return ask_all(ctx, count, concurrency)


@job(model="gpt-4o-mini", budget=Budget(llm_calls=7))
def llm_calls(ctx: RunContext, count: int = 40, concurrency: int = 8) -> int:
    return ask_all(ctx, count, concurrency)


@job(model="gpt-4o-mini", budget=Budget(tool_calls=3), tools=[ping])
def tool_calls(ctx: RunContext, count: int = 10, concurrency: int = 8) -> int:
    return len(ctx.map(lambda number: ctx.call(ping, number=number), range(count), concurrency=concurrency))


@job(model="gpt-4o-mini", budget=Budget(tool_calls=3), tools=[ping])
def workflow(ctx: RunContext) -> int:
    return len(ctx.workflow("Ping for ever").tasks)


@job(model="gpt-4o-mini", budget=Budget(llm_calls=0))
def none(ctx: RunContext) -> int:
    return ask_all(ctx, 1, 1)


@job(model="gpt-4o-mini", budget=Budget(llm_calls=2))
def stubborn(ctx: RunContext) -> str:
    for number in range(5):
        try:
            ctx.ask("clerk", f"Say {number}.")
        except BaseException:
            continue
    return "all done"


@job(model="gpt-4o-mini")
def default(ctx: RunContext, count: int = 3, concurrency: int = 8) -> int:
    return ask_all(ctx, count, concurrency)
'''


def answer(_body: Body) -> Answer:
    # Slow enough that eight calls are in flight together.
    return replace(text("so be it", tokens=ANSWER), delay_seconds=0.05)


@pytest.fixture
def command(asking: TaskPilot, model_server: OpenAIServer) -> TaskPilot:
    asking.job(JOBS)
    model_server.handler = answer
    return asking


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_budget_in_usd_is_never_passed(concurrency: int, command: TaskPilot, model_server: OpenAIServer) -> None:
    said = command("run", "usd", "-p", f"concurrency={concurrency}", "--json")
    run = command.run()
    assert (said.code, said.json["status"]) == (12, "budget_exceeded")
    assert "the run's budget of 0.02 USD" in said.json["reason"]
    assert run["cost_nano"] == run["spent_nano"] == len(model_server.requests) * ANSWER_NANO <= 20_000_000
    # The whole ceiling is of use: what stops the run is that one more call at its worst would not fit.
    assert run["spent_nano"] + 2_500_000 > 20_000_000
    assert run["reserved_nano"] == 0
    assert command.totals("taskpilot_budget_stops_total") == {'{"scope":"run"}': 1}


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_budget_in_tokens_is_never_passed(concurrency: int, command: TaskPilot, model_server: OpenAIServer) -> None:
    said = command("run", "tokens", "-p", f"concurrency={concurrency}", "--json")
    run = command.run()
    assert (said.code, said.json["status"]) == (12, "budget_exceeded")
    assert "the run's budget of 40,000 tokens" in said.json["reason"]
    used = len(model_server.requests) * (ANSWER.prompt + ANSWER.completion)
    assert run["spent_tokens"] == used == said.json["tokens"]["input"] + said.json["tokens"]["output"] <= 40_000
    assert used + 4_200 > 40_000


def test_a_budget_in_llm_calls_is_never_passed(command: TaskPilot, model_server: OpenAIServer) -> None:
    said = command("run", "llm_calls", "--json")
    assert (said.code, said.json["llm_calls"], len(model_server.requests)) == (12, 7, 7)


def test_a_budget_in_tool_calls_is_never_passed(command: TaskPilot) -> None:
    said = command("run", "tool_calls", "--json")
    assert (said.code, said.json["tool_calls"]) == (12, 3)
    assert len((command.root / "pings.txt").read_text().splitlines()) == 3


def test_a_model_that_calls_tools_for_ever_is_stopped_by_the_budget(command: TaskPilot, model_server: OpenAIServer) -> None:
    model_server.handler = lambda body: triage_brain(body) if wanted(body) else tool_calls(("ping", {"number": len(model_server.requests)}))
    said = command("run", "workflow", "--json")
    assert (said.code, said.json["tool_calls"], said.json["tasks"]) == (12, 3, {"approved": 1})
    assert len((command.root / "pings.txt").read_text().splitlines()) == 3


def test_a_budget_of_nothing_lets_nothing_be_asked(command: TaskPilot, model_server: OpenAIServer) -> None:
    assert command("run", "none", "--quiet").code == 12
    assert model_server.requests == ()


def test_a_job_that_swallows_the_stop_is_stopped_all_the_same(command: TaskPilot, model_server: OpenAIServer) -> None:
    said = command("run", "stubborn", "--json")
    assert (said.code, said.json["status"], len(model_server.requests)) == (12, "budget_exceeded", 2)


def test_a_job_without_a_budget_gets_the_default_one_and_its_output_says_so(command: TaskPilot, model_server: OpenAIServer) -> None:
    said = command("run", "default")
    assert said.code == 0
    assert "budget: 1 USD, 200 LLM calls, 200 tool calls a run (the default; the job sets none)" in said.out
    stopped = command("run", "default", "-p", "count=250", "--json")
    # Each call costs some 0.0018 USD: it is the calls that end it.
    assert (stopped.code, stopped.json["llm_calls"], len(model_server.requests)) == (12, 200, 203)


def test_a_run_that_a_budget_stopped_goes_on_under_a_larger_one_and_pays_nothing_twice(
    command: TaskPilot, model_server: OpenAIServer
) -> None:
    stopped = command("run", "llm_calls", "-p", "count=10", "--json")
    again = command("runs", "resume", stopped.json["run_id"], "--json")
    assert (again.code, len(model_server.requests)) == (12, 7)
    command.job(JOBS.replace("Budget(llm_calls=7)", "Budget(llm_calls=10)"))
    whole = command("runs", "resume", stopped.json["run_id"], "--json")
    assert (whole.code, whole.json["result"], whole.json["llm_calls"]) == (0, 10, 10)
    assert len({json.dumps(body["messages"]) for body in model_server.bodies}) == len(model_server.requests) == 10


def test_a_budget_in_usd_for_a_model_without_a_price_is_refused_before_anything_is_asked(
    command: TaskPilot, model_server: OpenAIServer
) -> None:
    said = command("run", "usd", "--model", "home-grown-7b")
    assert (said.code, said.out, model_server.requests) == (78, "", ())
    assert str(command.root / "prices.toml") in said.err
    assert "No token was spent" in said.err
    assert not (command.state_dir / "taskpilot.db").exists() or command.rows("SELECT id FROM runs") == []


def test_the_default_budget_lets_a_model_without_a_price_work_and_says_that_its_cost_is_unknown(command: TaskPilot) -> None:
    said = command("run", "default", "--model", "home-grown-7b", "--json")
    assert (said.code, said.json["cost_usd"], said.json["llm_calls"]) == (0, None, 3)
    assert command.totals("taskpilot_llm_unpriced_calls_total") == {'{"model":"home-grown-7b"}': 3}
    assert command.totals("taskpilot_llm_cost_usd_total") == {}
    assert [row["cost_nano"] for row in command.rows("SELECT cost_nano FROM steps WHERE kind = 'ask'")] == [None] * 3
    told = command("run", "default", "--model", "home-grown-7b")
    assert "cost: unknown" in told.out
    assert "the budget limits only calls and tokens" in told.out


def test_a_price_of_the_projects_own_wins(command: TaskPilot) -> None:
    prices = '[[price]]\nmodel = "{}"\ninput = "1.5"\ncached_input = "0.3"\noutput = "2"\n'
    (command.root / "prices.toml").write_text(prices.format("home-grown-7b") + prices.format("gpt-4o-mini"))
    expected = 3 * (300 * 1_500 + 100 * 300 + 3_000 * 2_000)
    for model in ("home-grown-7b", "gpt-4o-mini"):
        said = command("run", "default", "--model", model, "--json")
        assert said.code == 0
        assert round(said.json["cost_usd"] * 1e9) == expected == command.run()["cost_nano"]
    stopped = command("run", "usd", "--model", "home-grown-7b", "--json")
    assert stopped.code == 12
    assert command.run()["spent_nano"] <= 20_000_000


def test_a_broken_prices_file_is_a_configuration_error_that_shows_how_to_write_one(command: TaskPilot, model_server: OpenAIServer) -> None:
    (command.root / "prices.toml").write_text('[[price]]\nmodel = "x"\ninput = "cheap"\n')
    said = command("run", "default")
    assert (said.code, model_server.requests) == (78, ())
    assert "prices.toml" in said.err
    assert "[[price]]" in said.err


def test_without_a_key_a_server_or_the_offline_model_the_three_ways_are_shown(taskpilot: TaskPilot) -> None:
    taskpilot.job(JOBS)
    said = taskpilot("run", "default")
    assert (said.code, said.out) == (78, "")
    assert all(way in said.err for way in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "--model offline"))
    assert not (taskpilot.state_dir / "taskpilot.db").exists() or taskpilot.rows("SELECT id FROM runs") == []


def test_a_provider_that_is_down_is_temporary(taskpilot: TaskPilot) -> None:
    taskpilot.job(JOBS)
    address = f"http://127.0.0.1:{free_port()}/v1"
    said = taskpilot("run", "default", "--quiet", environment={"OPENAI_BASE_URL": address})
    assert (said.code, said.out) == (75, "")
    assert f"default: failed: the model is not available: gave up after 6 tries: {address} cannot be reached" in said.err
    assert said.err.count("\n") == 1


def test_a_call_that_takes_several_paid_tries_is_counted_with_all_of_them(command: TaskPilot, model_server: OpenAIServer) -> None:
    def handler(body: Body) -> Answer:
        return disconnect("amid") if len(model_server.requests) < 3 else answer(body)

    model_server.handler = handler
    said = command("run", "default", "-p", "count=1", "--json")
    (step,) = command.rows("SELECT * FROM steps WHERE kind = 'ask'")
    assert said.code == 0
    # Each of three tries was reserved. Two answers were cut off, and may have been billed: each counts with its worst case.
    assert step["cost_nano"] == ANSWER_NANO + step["reserved_nano"] * 2 // 3 == command.run()["spent_nano"]
