"""kill -9 of the job process, of its supervisor, and of both, at random moments: what is recorded is neither lost nor paid twice."""

import json
import os
import random
import time
from collections import Counter, defaultdict

import pytest

from tests.acceptance.kills.books import (
    Event,
    ask_steps,
    check_decided,
    check_run,
    check_totals,
    content_of,
    effects,
    unexplained,
)
from tests.acceptance.kills.storm import ASKS, CALLS, ORDERS, TASKS, Storm, Victim
from tests.command import TaskPilot
from tests.servers.openai_server import OpenAIServer

pytestmark = pytest.mark.real_creation

KILLS = int(os.environ.get("TASKPILOT_KILLS", "3"))
"""How many kills of each kind must land; 50 is what issue 2 asks for."""
SEED = int(os.environ.get("TASKPILOT_KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)


@pytest.mark.timeout(120 + 60 * KILLS)
@pytest.mark.parametrize("victim", ["job", "supervisor", "both"])
@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing_and_pays_nothing_twice(victim: Victim, asking: TaskPilot, model_server: OpenAIServer) -> None:
    print(f"seed: TASKPILOT_KILLS_SEED={SEED}")  # noqa: T201 - pytest shows it where the test fails.
    asking.environment["OPENAI_API_KEY"] = "a-test"
    storm = Storm(asking, model_server, random.Random(f"{SEED} {victim}"))
    offset = time.time_ns() // 1000 - int(time.monotonic() * 1_000_000)
    finished = []
    while storm.landed < KILLS:
        finished.append(storm.one(victim, min(storm.rng.choice([1, 1, 2, 3]), KILLS - storm.landed)))
        check_run(asking, finished[-1])
    check_totals(asking, answered=storm.answered)
    check_decided(asking)
    _check_what_the_server_saw(storm, offset)
    _check_what_the_tools_did(storm, finished)
    _check_attempts(storm, victim)
    _check_the_clock(storm)
    _report(storm, victim, len(finished))


def test_a_run_that_nobody_kills_makes_exactly_the_calls_that_the_storm_expects(asking: TaskPilot, model_server: OpenAIServer) -> None:
    asking.environment["OPENAI_API_KEY"] = "a-test"
    storm = Storm(asking, model_server, random.Random(1))
    run_id = storm.one("job", 0)
    check_run(asking, run_id)
    run = asking.run()
    assert (run["llm_calls"], run["tool_calls"], len(model_server.requests)) == (ASKS, CALLS, ASKS)
    assert run["cost_nano"] > 0
    assert asking.rows("SELECT count(*) AS n FROM steps WHERE status != 'succeeded'")[0]["n"] == 0


def _check_what_the_server_saw(storm: Storm, offset: int) -> None:
    """Each request belongs to a step of its own that was begun before it; so nothing that is recorded was asked a second time."""
    asked = ask_steps(storm.taskpilot)
    # A client that is killed while it sends leaves half a request, which no server can answer.
    whole = [seen for seen in storm.server.requests if seen.body]
    storm.hits["requests cut in half"] = len(storm.server.requests) - len(whole)
    requests = [Event(content_of(seen.body["messages"]), int(seen.at * 1_000_000) + offset) for seen in whole]
    # The server may read the request of a killed process after the step was recorded as unknown.
    open_ended = [(content, {**step, "ended_at": None} if step["status"] == "unknown" else step) for content, step in asked]
    assert unexplained(requests, open_ended) == []
    assert all(step["retries"] is None for _, step in asked)
    sent = Counter(event.key for event in requests)
    recorded = Counter(content for content, step in asked if step["status"] == "succeeded")
    lost = Counter(content for content, step in asked if step["status"] == "unknown")
    for content, number in recorded.items():
        assert number <= sent[content] <= number + lost[content]
    assert sum(recorded.values()) == ASKS * storm.fires
    storm.hits["unknown asks"] = sum(lost.values())


def _check_what_the_tools_did(storm: Storm, finished: list[str]) -> None:
    lines = [line for line in effects(storm.effects_file) if "tool" in line]
    calls = storm.taskpilot.rows("SELECT * FROM steps WHERE kind = 'call' AND name IN ('charge', 'stamp')")
    steps = [((step["name"], json.loads(step["input"])["order"]), step) for step in calls]
    done = [Event((line["tool"], line["key"]), line["at"]) for line in lines if line["tool"] in ("charge", "stamp")]
    assert unexplained(done, steps) == []
    charges = Counter(event.key for event in done if event.key[0] == "charge")
    assert set(charges.values()) == {1}, charges
    assert len(charges) == (ORDERS + TASKS) * len(finished)
    assert len({event.key for event in done if event.key[0] == "stamp"}) == (ORDERS + TASKS) * len(finished)
    named = storm.taskpilot.rows("SELECT * FROM steps WHERE kind = 'step'")
    assert Counter(step["run_id"] for step in named) == Counter(finished)
    attempts = {row["id"]: row["attempts"] for row in storm.taskpilot.rows("SELECT id, attempts FROM runs")}
    for step in named:
        # A plain step is recorded with its result: an attempt that is killed before that makes it again, and none after that.
        reads = [line["at"] for line in lines if line["tool"] == "read_orders" and line["key"] == step["run_id"]]
        assert 1 <= len(reads) <= attempts[step["run_id"]]
        assert max(reads) <= step["ended_at"]
    tasks = storm.taskpilot.rows("SELECT status, count(*) AS n FROM tasks GROUP BY status")
    assert tasks == [{"status": "executed", "n": TASKS * len(finished)}]


def _check_attempts(storm: Storm, victim: Victim) -> None:
    """Attempts that were killed are lost, for the reason that fits; all others ended as the run did or waited."""
    reasons = {"job": {"signal"}, "supervisor": {"lease"}, "both": {"lease", "signal"}}[victim]
    attempts = storm.taskpilot.rows("SELECT id, status, reason_code FROM attempts")
    assert {row["reason_code"] for row in attempts if row["status"] == "lost"} <= reasons
    assert {row["status"] for row in attempts} <= {"lost", "succeeded", "waiting"}
    lost = {row["id"] for row in attempts if row["status"] == "lost"}
    if victim == "job":
        outside = storm.hits["before the claim or after the end"] + storm.hits["no store yet"] + storm.hits["store being made"]
        assert storm.landed - outside - 1 <= len(lost) <= storm.landed
    else:
        # A job may record its end in the moment before the kill: then no attempt is lost, however many kills that happens to.
        assert storm.cut <= lost
        assert len(lost) <= storm.landed
    assert storm.taskpilot.rows("SELECT DISTINCT status FROM runs") == [{"status": "succeeded"}]


def _check_the_clock(storm: Storm) -> None:
    """`ctx.now()` and `ctx.uuid()` are the same in all attempts."""
    seen: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for line in effects(storm.effects_file):
        if "witness" in line:
            seen[line["run"], line["witness"]].add((line["now"], line["uuid"]))
    assert seen
    assert all(len(values) == 1 for values in seen.values()), seen


def _report(storm: Storm, victim: Victim, runs: int) -> None:
    attempts = storm.taskpilot.rows("SELECT count(*) AS n FROM attempts")[0]["n"]
    figures = ", ".join(f"{name}: {number}" for name, number in sorted(storm.hits.items()))
    print(f"{victim}: {storm.landed} kills in {runs} runs, {attempts} attempts, {len(storm.server.requests)} requests; {figures}")  # noqa: T201
