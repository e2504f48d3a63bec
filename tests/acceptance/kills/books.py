"""Does the record agree with what the model server and the tools saw, and with itself?"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.command import TaskPilot

Row = dict[str, Any]
Content = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened outside of the record: a request that a server got, or a tool's effect."""

    key: Any
    at: int
    """Epoch microseconds."""


def content_of(messages: Iterable[Mapping[str, Any]]) -> Content:
    """What identifies a request by what is in it, on the wire as in the journal."""
    return tuple((str(message["role"]), str(message.get("content") or "")) for message in messages)


def effects(path: Path) -> list[Row]:
    """The lines that the tools and the job wrote, each whole."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def unexplained(events: Sequence[Event], steps: Sequence[tuple[Any, Row]]) -> list[Event]:
    """The events that no step of their own covers: begun before, not ended before, of the same key. One step covers one event."""
    by_key: dict[Any, list[Row]] = defaultdict(list)
    for key, step in steps:
        by_key[key].append(step)
    left = []
    for event in sorted(events, key=lambda event: event.at):
        fitting = [step for step in by_key[event.key] if step["started_at"] <= event.at <= (step["ended_at"] or event.at)]
        if fitting:
            # The earliest end first: that is the best choice for intervals.
            by_key[event.key].remove(min(fitting, key=lambda step: step["ended_at"] or 2**62))
        else:
            left.append(event)
    return left


def check_run(taskpilot: TaskPilot, run_id: str) -> None:
    """One run in itself: attempts, steps in their makings, columns that are sums."""
    run = taskpilot.rows("SELECT * FROM runs WHERE id = ?", run_id)[0]
    attempts = taskpilot.rows("SELECT * FROM attempts WHERE run_id = ? ORDER BY number", run_id)
    assert [attempt["number"] for attempt in attempts] == list(range(1, run["attempts"] + 1))
    assert run["active_micros"] == sum(attempt["active_micros"] for attempt in attempts)
    if run["status"] in ("running", "queued"):
        return
    assert all(attempt["ended_at"] for attempt in attempts), attempts
    assert (run["lease_token"], run["lease_expires_at"]) == (None, None)
    assert (run["reserved_nano"], run["reserved_tokens"]) == (0, 0)
    steps = taskpilot.rows("SELECT * FROM steps WHERE run_id = ? ORDER BY key, make", run_id)
    assert not [step for step in steps if step["status"] == "begun"]
    _check_makings(steps)
    asks = [step for step in steps if step["kind"] == "ask"]
    calls = [step for step in steps if step["kind"] == "call" and step["status"] != "denied" and step["decision_id"]]
    columns = ("input_tokens", "cached_input_tokens", "output_tokens", "cost_nano")
    assert {name: run[name] for name in columns} == {name: sum(step[name] or 0 for step in asks) for name in columns}
    assert run["spent_nano"] == run["cost_nano"] + sum(step["reserved_nano"] or 0 for step in asks if step["cost_nano"] is None)
    worst = sum(step["reserved_tokens"] for step in asks if step["status"] == "unknown")
    assert run["spent_tokens"] == run["input_tokens"] + run["output_tokens"] + worst
    assert run["llm_calls"] == len(asks)
    assert run["tool_calls"] == len(calls)


def check_totals(taskpilot: TaskPilot, *, answered: Mapping[str, str] = {}, reopened: Mapping[str, int] = {}) -> None:
    """Totals against the sums over all rows.

    `answered`: what the status of a step was before a person answered for it. `reopened`: ends of runs that a person resumed after
    them; they stay counted.
    """
    steps = taskpilot.rows("SELECT * FROM steps")
    asks = [step for step in steps if step["kind"] == "ask"]
    calls = Counter(answered.get(step["id"], step["status"]) for step in steps if step["kind"] == "call")
    # Not made, so not counted.
    del calls["diverged"]
    assert _by(taskpilot, "taskpilot_llm_calls_total", "status") == Counter(step["status"] for step in asks)
    assert _by(taskpilot, "taskpilot_tool_calls_total", "status") == calls
    cost = sum(step["cost_nano"] or 0 for step in asks)
    assert sum(taskpilot.totals("taskpilot_llm_cost_usd_total").values()) == cost
    tokens = _by(taskpilot, "taskpilot_llm_tokens_total", "kind")
    for kind, column in (("input", "input_tokens"), ("cached_input", "cached_input_tokens"), ("output", "output_tokens")):
        assert tokens[kind] == sum(step[column] or 0 for step in asks)
    runs = taskpilot.rows("SELECT * FROM runs")
    assert sum(taskpilot.totals("taskpilot_attempts_total").values()) == sum(run["attempts"] for run in runs)
    ended = Counter(run["status"] for run in runs if run["ended_at"]) + Counter(reopened)
    assert _by(taskpilot, "taskpilot_runs_total", "status") == ended
    decided = Counter(row["verdict"] for row in taskpilot.rows("SELECT verdict FROM decisions"))
    assert _by(taskpilot, "taskpilot_policy_decisions_total", "decision") == decided
    assert sum(run["llm_calls"] for run in runs) == len(asks)
    assert sum(run["cost_nano"] for run in runs) == cost


def check_decided(taskpilot: TaskPilot, *, never_made: Iterable[str] = ()) -> None:
    """Each tool step that was made has a decision for its own key that allows it and is not later than it."""
    decisions = {row["id"]: row for row in taskpilot.rows("SELECT * FROM decisions")}
    for step in taskpilot.rows("SELECT * FROM steps WHERE kind = 'call' AND status != 'denied'"):
        if step["id"] in never_made:
            assert step["decision_id"] is None
            continue
        decision = decisions[step["decision_id"]]
        allowed = decision["verdict"] == "allow" or decision["status"] == "approved"
        assert allowed, (step, decision)
        assert (decision["tool"], decision["step_key"], decision["run_id"]) == (step["name"], step["key"], step["run_id"])
        assert (decision["settled_at"] or decision["decided_at"]) <= step["started_at"]


def ask_steps(taskpilot: TaskPilot) -> list[tuple[Content, Row]]:
    """Every LLM step with the content that it asked."""
    rows = taskpilot.rows("SELECT * FROM steps WHERE kind = 'ask'")
    return [(content_of(json.loads(row["input"])), row) for row in rows]


def everything(taskpilot: TaskPilot) -> dict[str, list[Row]]:
    """All rows that say what happened; not those that say who was told."""
    tables = ("runs", "attempts", "steps", "decisions", "tasks", "totals", "fires")
    kept = {table: taskpilot.rows(f"SELECT * FROM {table}") for table in tables}
    for attempt in kept["attempts"]:
        attempt.pop("traces_written_at")
        attempt.pop("traces_due_at")
    return kept


def _check_makings(steps: Sequence[Row]) -> None:
    """A step is made again only after it failed or nobody knew, or a person said so; what succeeded is never made again."""
    by_key: dict[str, list[Row]] = defaultdict(list)
    for step in steps:
        by_key[step["key"]].append(step)
    for makings in by_key.values():
        assert [step["make"] for step in makings] == list(range(len(makings)))
        assert all(step["status"] in ("unknown", "failed", "again") for step in makings[:-1]), makings
        if makings[0]["kind"] == "call" and not makings[0]["idempotent"]:
            assert all(step["status"] == "again" for step in makings[:-1]), makings


def _by(taskpilot: TaskPilot, metric: str, label: str) -> Counter[str]:
    counted: Counter[str] = Counter()
    for labels, value in taskpilot.totals(metric).items():
        counted[json.loads(labels)[label]] += value
    return counted
