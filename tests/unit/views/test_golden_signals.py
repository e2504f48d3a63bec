"""The golden signals: exact figures, their verdicts, and no verdict where nothing ran."""

from dataclasses import astuple
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from taskpilot.domain.decisions import Verdict as Said
from taskpilot.domain.errors import UsageError
from taskpilot.domain.runs import FeedbackVerdict, RunStatus
from taskpilot.domain.times import to_micros
from taskpilot.services.approvals import give_feedback
from taskpilot.store import health_queries
from taskpilot.store.tables import runs
from taskpilot.views.golden_signals import GoldenSignals, Signal, golden_json, golden_signals
from tests import records
from tests.timeline import MONDAY, Timeline

NAMES = ["success_rate", "p95_duration", "cost_per_success", "policy_violation_rate", "confirmed_correctness"]


def ended(timeline: Timeline, status: RunStatus = RunStatus.SUCCEEDED, *, times: int = 1, days_ago: float = 1, **columns: Any) -> None:
    for _ in range(times):
        records.add_run(timeline.deployment.store, status=status, ended_at=to_micros(MONDAY - timedelta(days=days_ago)), **columns)


def figures(timeline: Timeline, **options: int) -> GoldenSignals:
    return golden_signals(timeline.deployment, **options)


def short(signal: Signal) -> tuple[float | None, str]:
    return signal.value, signal.verdict.value


@pytest.mark.parametrize("made", [False, True], ids=["no store", "empty store"])
def test_where_nothing_ran_nothing_is_healthy(made: bool, timeline: Timeline) -> None:
    if made:
        timeline.follow()
        ended(timeline, days_ago=31)
        ended(timeline, RunStatus.CANCELLED)
        records.add_run(timeline.deployment.store, status=RunStatus.RUNNING, ended_at=None)
    found = golden_json(figures(timeline))
    assert list(found) == NAMES
    for signal in found.values():
        assert set(signal) == {"value", "unit", "verdict", "window", "detail"}
        assert (signal["value"], signal["verdict"]) == (None, "no data")
    assert timeline.deployment.settings.state_dir.exists() is made


@pytest.mark.parametrize(("good", "verdict"), [(20, "healthy"), (19, "healthy"), (18, "degraded"), (17, "unhealthy"), (0, "unhealthy")])
def test_success_is_judged_at_95_and_90_percent(good: int, verdict: str, timeline: Timeline) -> None:
    bad = (RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.LOST, RunStatus.DENIED, RunStatus.BUDGET_EXCEEDED)
    ended(timeline, times=good)
    for number in range(20 - good):
        ended(timeline, bad[number % len(bad)])
    ended(timeline, RunStatus.CANCELLED, times=5)
    signal = figures(timeline).success_rate
    assert short(signal) == (5.0 * good, verdict)
    assert signal.detail == f"{good} of 20 runs succeeded"


def test_the_p95_is_that_of_a_sorted_list(timeline: Timeline) -> None:
    seed = Random().randrange(10**9)
    random = Random(seed)
    for count in (1, 19, 20, 21, 40):
        room = timeline.deployment.store
        with room.write() as connection:
            connection.exec_driver_sql("DELETE FROM runs")
        values = [random.randrange(1, 10**9) for _ in range(count)]
        for value in values:
            ended(timeline, active_micros=value, deadline_micros=2 * 10**9)
        expected = sorted(values)[-(-95 * count // 100) - 1]
        assert short(figures(timeline).p95_duration) == (expected / 1e6, "healthy"), f"seed {seed}, {count} runs"


@pytest.mark.parametrize(("seconds", "verdict"), [(79, "healthy"), (80, "degraded"), (99, "degraded"), (100, "unhealthy")])
def test_duration_is_judged_by_the_deadline_of_each_run(seconds: int, verdict: str, timeline: Timeline) -> None:
    ended(timeline, times=3, active_micros=3_000_000_000, deadline_micros=36_000_000_000)
    ended(timeline, RunStatus.TIMED_OUT, active_micros=seconds * 1_000_000, deadline_micros=100_000_000)
    assert short(figures(timeline).p95_duration) == (3000.0, verdict)


@pytest.mark.parametrize(("wasted", "verdict"), [(0, "healthy"), (10, "healthy"), (25, "degraded"), (26, "unhealthy")])
def test_the_cost_of_a_success_has_the_failures_in_it(wasted: int, verdict: str, timeline: Timeline) -> None:
    ended(timeline, times=2, cost_nano=(100 - wasted) * 5_000_000)
    ended(timeline, RunStatus.FAILED, cost_nano=wasted * 10_000_000)
    assert short(figures(timeline).cost_per_success) == (0.5, verdict)


def test_what_was_spent_without_a_success_is_unhealthy_and_an_unknown_price_is_no_figure(timeline: Timeline) -> None:
    ended(timeline, RunStatus.FAILED, cost_nano=5)
    assert short(figures(timeline).cost_per_success) == (None, "unhealthy")
    ended(timeline, unpriced_calls=2)
    signal = figures(timeline).cost_per_success
    assert short(signal) == (None, "no data")
    assert signal.detail == "unknown: 2 calls had no price"


@pytest.mark.parametrize(("denied", "verdict"), [(0, "healthy"), (1, "healthy"), (5, "degraded"), (6, "unhealthy")])
def test_violations_are_the_tool_calls_that_policy_denied(denied: int, verdict: str, timeline: Timeline) -> None:
    run_id = records.add_run(timeline.deployment.store)
    for number in range(100):
        said = Said.DENY if number < denied else Said.REQUIRE_APPROVAL if number % 2 else Said.ALLOW
        records.add_decision(timeline.deployment.store, run_id, verdict=said)
    records.add_decision(timeline.deployment.store, run_id, verdict=Said.DENY, decided_at=MONDAY - timedelta(days=31))
    assert short(figures(timeline).policy_violation_rate) == (float(denied), verdict)


def test_correctness_is_what_people_said_last_of_each_run(timeline: Timeline) -> None:
    def say(verdict: FeedbackVerdict, run_id: str) -> None:
        give_feedback(timeline.deployment, run_id, verdict, by="ada", note="")

    run_ids = [records.add_run(timeline.deployment.store) for _ in range(10)]
    say(FeedbackVerdict.WRONG, run_ids[0])
    timeline.later(days=31)
    for run_id in run_ids[1:]:
        say(FeedbackVerdict.CORRECT, run_id)
    assert short(figures(timeline).confirmed_correctness) == (100.0, "healthy")
    assert short(figures(timeline, days=32).confirmed_correctness) == (90.0, "degraded")
    say(FeedbackVerdict.WRONG, run_ids[1])
    say(FeedbackVerdict.CORRECT, run_ids[0])
    signal = figures(timeline).confirmed_correctness
    assert (short(signal), signal.window, signal.detail) == ((90.0, "degraded"), "30d", "9 of 10 rated results were correct")


def test_the_window_is_as_long_as_one_asks(timeline: Timeline) -> None:
    ended(timeline, days_ago=6)
    ended(timeline, RunStatus.FAILED, days_ago=8)
    week = figures(timeline, days=7).success_rate
    assert (week.value, week.window) == (100.0, "7d")
    assert figures(timeline).success_rate.value == 50.0
    for days in (0, 4000):
        with pytest.raises(UsageError, match="window"):
            figures(timeline, days=days)


def test_the_sums_by_day_follow_whatever_happens_to_a_run(timeline: Timeline) -> None:
    seed = 20261130
    random = Random(seed)
    statuses = [*RunStatus]
    store = timeline.deployment.store
    ids: list[str] = []
    for _ in range(400):
        doing = random.choice(("add", "add", "change", "remove"))
        moment = to_micros(MONDAY - timedelta(days=random.uniform(0, 40)))
        if doing == "add" or not ids:
            ids.append(
                records.add_run(
                    store, status=random.choice(statuses), ended_at=random.choice((None, moment)), active_micros=random.randrange(10**7)
                )
            )
        elif doing == "change":
            changed = {"status": random.choice(statuses), "ended_at": random.choice((None, moment)), "cost_nano": random.randrange(10**6)}
            with store.write() as connection:
                connection.execute(update(runs).where(runs.c.id == random.choice(ids)).values(**changed))
        else:
            with store.write() as connection:
                connection.execute(delete(runs).where(runs.c.id == ids.pop(random.randrange(len(ids)))))
    for days in (0.7, 1, 7.4, 30, 365):
        since = MONDAY - timedelta(days=days)
        with store.read() as connection:
            judged = connection.execute(
                select(runs).where(runs.c.ended_at >= to_micros(since), runs.c.status.not_in(("queued", "running", "waiting", "cancelled")))
            ).all()
            found = health_queries.ended(connection, since)
        good = [run for run in judged if run.status == "succeeded"]
        wasted = sum(run.cost_nano for run in judged) - sum(run.cost_nano for run in good)
        expected = (len(good), len(judged), sum(run.cost_nano for run in judged), wasted, sum(run.unpriced_calls for run in judged))
        assert astuple(found) == expected, (seed, days)


def test_of_many_runs_the_percentiles_are_right_to_two_digits(timeline: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(7)
    for _ in range(500):
        ended(timeline, days_ago=random.uniform(0, 20), active_micros=int(10 ** random.uniform(3, 9)))
    exact = figures(timeline).p95_duration
    monkeypatch.setattr(health_queries, "_EXACT", 100)
    rounded = figures(timeline).p95_duration
    assert exact.value is not None
    assert rounded.value == pytest.approx(exact.value, rel=0.05)
    assert rounded.verdict is exact.verdict
