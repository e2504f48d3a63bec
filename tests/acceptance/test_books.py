"""A hundred requests against a server that reports odd figures: every book says the same, to the token and the nano-USD."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import Said, TaskPilot
from tests.servers.openai_answers import Answer, Body, Tokens, last_user, structured, text, tool_calls, wanted
from tests.servers.openai_server import OpenAIServer
from tests.servers.pushgateway import Pushgateway, pushgateway

pytestmark = pytest.mark.slow

REQUESTS = 100
SHIPPED = Path(__file__).parents[2] / "jobs" / "triage.py"
INPUT_NANO, CACHED_NANO, OUTPUT_NANO = 150, 75, 600
"""gpt-4o-mini in nano-USD a token: 0.15, 0.075 and 0.60 USD per million."""
VERDICTS = ("APPROVE", "APPROVE", "REJECTED")


def nano(tokens: Tokens) -> int:
    return (tokens.prompt - tokens.cached) * INPUT_NANO + tokens.cached * CACHED_NANO + tokens.completion * OUTPUT_NANO


class Clerk:
    """Answers each call with figures that no other call has, and keeps a book of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.book: list[tuple[str, Tokens]] = []
        self.rounds: Counter[str] = Counter()

    def __call__(self, body: Body) -> Answer:
        agent = {"Plan": "planner", "Review": "reviewer"}.get(wanted(body) or "", "executor")
        tokens = self._enter(agent)
        if agent == "planner":
            number = int(last_user(body).split()[1])
            titles = [f"Task {part} of request {number}" for part in range(1 + number % 3)]
            return structured(body, {"tasks": [{"title": title, "priority": "low", "description": ""} for title in titles]}, tokens=tokens)
        task = json.loads(last_user(body))["task"]
        number = sum(map(int, task["title"].split()[1::3]))
        if agent == "reviewer":
            return structured(body, {"verdict": VERDICTS[number % 3], "reason": "so it is"}, tokens=tokens)
        with self._lock:
            self.rounds[task["title"]] += 1
        done = sum(message["role"] == "tool" for message in body["messages"])
        if done == 0:
            return tool_calls(("create_task", {"title": task["title"], "priority": task["priority"]}), tokens=tokens)
        if done == 1 and number % 2:
            return tool_calls(("notify", {"channel": "ops", "message": f"{task['title']} is filed"}), tokens=tokens)
        return text("done", tokens=tokens)

    def _enter(self, agent: str) -> Tokens:
        with self._lock:
            number = len(self.book)
            tokens = Tokens(prompt=701 + 13 * number, cached=(number % 4) * 97, completion=11 + number % 53)
            self.book.append((agent, tokens))
            return tokens


@dataclass(frozen=True)
class Books:
    """One run of triage, seen from every side."""

    said: Said
    clerk: Clerk
    command: TaskPilot
    gateway: Pushgateway
    pushed: str

    def tokens(self, agent: str | None = None) -> dict[str, int]:
        """What the server reported, of one agent or of all."""
        entries = [tokens for name, tokens in self.clerk.book if agent in {None, name}]
        return {
            "input": sum(one.prompt for one in entries),
            "cached_input": sum(one.cached for one in entries),
            "output": sum(one.completion for one in entries),
        }

    def nano(self, agent: str | None = None) -> int:
        """What it cost, call by call."""
        return sum(nano(tokens) for name, tokens in self.clerk.book if agent in {None, name})


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    folder = tmp_path_factory.mktemp("books")
    root, home = folder / "root", folder / "home"
    (root / "jobs").mkdir(parents=True)
    home.mkdir()
    (root / "taskpilot.toml").write_text("")
    (root / "jobs" / "triage.py").write_text(SHIPPED.read_text())
    (root / "jobs" / "inbox.jsonl").write_text("".join(json.dumps(f"Request {number} of many") + "\n" for number in range(REQUESTS)))
    clerk = Clerk()
    with OpenAIServer(clerk) as server, pushgateway(folder) as gateway:
        environment = {"OPENAI_BASE_URL": server.url, "TASKPILOT_PUSHGATEWAY_URL": gateway.url}
        command = TaskPilot(root, home, **environment)
        said = command("run", "triage", "--json")
        # A gateway of a busy machine may have missed its half second: what is pending is delivered by whoever comes next.
        assert command("metrics", "push").code == 0
        yield Books(said, clerk, command, gateway, gateway.metrics())


def test_a_hundred_requests_are_handled(books: Books) -> None:
    assert (books.said.code, books.said.err) == (0, "")
    assert books.said.json["result"] == f"{REQUESTS} of {REQUESTS} requests handled"


def test_no_agent_asks_more_often_than_its_work_needs(books: Books) -> None:
    asked = Counter(agent for agent, _tokens in books.clerk.book)
    tasks = sum(1 + number % 3 for number in range(REQUESTS))
    assert asked["planner"] == REQUESTS
    assert asked["reviewer"] == tasks
    effects = books.command.rows(
        "SELECT scope, count(*) AS made FROM steps WHERE kind = 'call' AND status = 'succeeded' GROUP BY scope ORDER BY scope"
    )
    assert {one["made"] for one in effects} == {1, 2}
    # One turn for each round of tools, and one to say that it is done.
    assert sorted(books.clerk.rounds.values()) == sorted(one["made"] + 1 for one in effects)
    assert asked["executor"] == sum(books.clerk.rounds.values())


def test_each_call_is_recorded_with_the_tokens_that_the_server_reported_and_their_price(books: Books) -> None:
    rows = books.command.rows("SELECT agent, input_tokens, cached_input_tokens, output_tokens, cost_nano FROM steps WHERE kind = 'ask'")
    recorded = Counter(tuple(row.values()) for row in rows)
    reported = Counter((agent, one.prompt, one.cached, one.completion, nano(one)) for agent, one in books.clerk.book)
    assert recorded == reported


def test_the_run_its_summary_and_its_budget_say_the_sum_of_the_calls(books: Books) -> None:
    run, said, tokens = books.command.run(), books.said.json, books.tokens()
    assert said["tokens"] == tokens == {kind: run[f"{kind}_tokens"] for kind in tokens}
    assert round(said["cost_usd"] * 1e9) == books.nano() == run["cost_nano"] == run["spent_nano"]
    assert run["spent_tokens"] == tokens["input"] + tokens["output"]
    assert (run["reserved_nano"], run["reserved_tokens"], run["unpriced_calls"]) == (0, 0, 0)
    assert said["llm_calls"] == len(books.clerk.book) == run["llm_calls"]
    assert said["tool_calls"] == run["tool_calls"] == len(books.command.rows("SELECT id FROM steps WHERE kind = 'call'"))
    assert said["tasks"] == {
        row["status"]: row["n"] for row in books.command.rows("SELECT status, count(*) AS n FROM tasks GROUP BY status")
    }


def test_the_running_totals_say_the_same_for_each_agent(books: Books) -> None:
    for agent in ("planner", "reviewer", "executor"):
        labels = {"agent": agent, "model": "gpt-4o-mini"}
        tokens = {kind: books.command.totals("taskpilot_llm_tokens_total")[canonical({**labels, "kind": kind})] for kind in books.tokens()}
        assert tokens == books.tokens(agent)
        assert books.command.totals("taskpilot_llm_cost_usd_total")[canonical(labels)] == books.nano(agent)
    calls = canonical({"model": "gpt-4o-mini", "status": "succeeded"})
    assert books.command.totals("taskpilot_llm_calls_total") == {calls: len(books.clerk.book)}


def test_metrics_json_says_the_same(books: Books) -> None:
    job = json.loads((books.command.state_dir / "metrics.json").read_text())["jobs"]["triage"]
    assert job["last_run"]["tokens"] == books.tokens()
    assert round(job["last_run"]["cost_usd"] * 1e9) == books.nano()
    for agent in ("planner", "reviewer", "executor"):
        cost = job["totals"][f'taskpilot_llm_cost_usd_total{{agent="{agent}",model="gpt-4o-mini"}}']
        assert round(cost * 1e9) == books.nano(agent)
        for kind, tokens in books.tokens(agent).items():
            assert job["totals"][f'taskpilot_llm_tokens_total{{agent="{agent}",kind="{kind}",model="gpt-4o-mini"}}'] == tokens


def test_the_pushed_series_say_the_same(books: Books) -> None:
    for agent in ("planner", "reviewer", "executor"):
        cost = books.gateway.value("taskpilot_llm_cost_usd_total", agent=agent, job_name="triage")
        assert cost is not None
        assert round(cost * 1e9) == books.nano(agent)
        for kind, tokens in books.tokens(agent).items():
            assert books.gateway.value("taskpilot_llm_tokens_total", agent=agent, kind=kind) == tokens
    assert books.gateway.value("taskpilot_llm_calls_total", status="succeeded") == len(books.clerk.book)
    last = {kind: books.gateway.value("taskpilot_run_last_tokens", kind=kind) for kind in books.tokens()}
    assert last == books.tokens()
    assert books.said.json["run_id"] not in books.pushed


def test_the_spans_say_the_same(books: Books) -> None:
    lines = [json.loads(line) for line in (books.command.state_dir / "traces.jsonl").read_text().splitlines()]
    spans = [span for line in lines for one in line["resourceSpans"] for scope in one["scopeSpans"] for span in scope["spans"]]
    chats = [attributes(span) for span in spans if span["name"] == "chat gpt-4o-mini"]
    assert len(chats) == len(books.clerk.book)
    assert sum(one["gen_ai.usage.input_tokens"] for one in chats) == books.tokens()["input"]
    assert sum(one["gen_ai.usage.cache_read.input_tokens"] for one in chats) == books.tokens()["cached_input"]
    assert sum(one["gen_ai.usage.output_tokens"] for one in chats) == books.tokens()["output"]


def test_every_tool_call_has_an_allow_that_was_decided_before_it_began(books: Books) -> None:
    rows = books.command.rows(
        "SELECT s.started_at, d.decided_at, d.verdict, d.step_key = s.key AS same FROM steps s "
        "LEFT JOIN decisions d ON d.id = s.decision_id WHERE s.kind = 'call'"
    )
    assert rows
    assert all(row["verdict"] == "allow" and row["same"] and row["decided_at"] <= row["started_at"] for row in rows)
    lines = [json.loads(line) for line in (books.command.state_dir / "decision_logs.jsonl").read_text().splitlines()]
    assert len(lines) == len(rows)


def canonical(labels: dict[str, str]) -> str:
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    values = {one["key"]: one["value"] for one in span["attributes"]}
    return {key: int(value["intValue"]) for key, value in values.items() if "intValue" in value}
