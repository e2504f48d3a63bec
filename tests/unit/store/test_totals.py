"""Running totals: what each recording transaction adds to them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.instruments import LLM_COST, RUN_DURATION, RUNS
from taskpilot.store import totals
from taskpilot.store.database import Store
from taskpilot.store.tables import job_state
from taskpilot.store.tables import totals as table
from taskpilot.store.totals import AGENTS_MAX, Increment, canonical


def values(store: Store) -> dict[tuple[str, str, str], int]:
    with store.read() as connection:
        return {(row.job, row.metric, row.labels): row.value for row in connection.execute(table.select())}


def test_an_increment_adds_to_what_is_there(store: Store) -> None:
    for amount in (3, 4):
        with store.write() as connection:
            totals.add(connection, "triage", [totals.count(RUNS, amount, status="succeeded")])
    with store.write() as connection:
        totals.add(connection, "digest", [totals.count(RUNS, status="succeeded")])
    labels = '{"status":"succeeded"}'
    assert values(store) == {("triage", RUNS.name, labels): 7, ("digest", RUNS.name, labels): 1}


def test_the_same_series_twice_in_one_transaction_counts_twice(store: Store) -> None:
    with store.write() as connection:
        totals.add(connection, "triage", [totals.count(RUNS, status="failed")] * 3)
    assert list(values(store).values()) == [3]


def test_nothing_to_add_makes_no_row(store: Store) -> None:
    with store.write() as connection:
        totals.add(connection, "triage", [])
        totals.add(connection, "triage", [totals.count(LLM_COST, 0, model="m", agent="planner")])
    assert values(store) == {}


def test_a_total_beyond_32_bits_is_exact(store: Store) -> None:
    for _ in range(2):
        with store.write() as connection:
            totals.add(connection, "triage", [totals.count(LLM_COST, 2**60 + 1, model="m", agent="planner")])
    assert list(values(store).values()) == [2**61 + 2]


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5))
def test_labels_are_one_key_in_whatever_order_they_come(labels: dict[str, str]) -> None:
    key = canonical(labels)
    assert key == canonical(dict(reversed(labels.items())))
    assert json.loads(key) == labels


@pytest.mark.parametrize(
    ("micros", "bound"), [(0, "0.5"), (500_000, "0.5"), (500_001, "1.0"), (7_200_000_000, "7200.0"), (7_200_000_001, "+Inf")]
)
def test_an_observation_falls_into_the_first_bucket_that_holds_it(micros: int, bound: str) -> None:
    bucket, total, number = totals.observed(RUN_DURATION, micros, status="x")
    assert bucket == Increment(f"{RUN_DURATION.name}_bucket", canonical({"le": bound, "status": "x"}), 1)
    assert (total.metric, total.amount) == (f"{RUN_DURATION.name}_sum", micros)
    assert (number.metric, number.amount) == (f"{RUN_DURATION.name}_count", 1)


def test_every_change_of_a_jobs_state_makes_its_group_pending(store: Store) -> None:
    with store.write() as connection:
        totals.mark_dirty(connection, "triage")
        totals.set_state(connection, "triage", last_start=5)
        totals.set_state(connection, "triage", last_completion=9)
        totals.mark_dirty(connection, "digest")
    with store.read() as connection:
        rows = {row.job: row for row in connection.execute(job_state.select())}
    triage = rows["triage"]
    assert (triage.version, triage.pushed_version, triage.last_start, triage.last_completion) == (3, 0, 5, 9)
    assert (rows["digest"].version, rows["digest"].last_start) == (1, None)


def test_agents_beyond_a_jobs_share_are_counted_as_other(store: Store) -> None:
    metric = "taskpilot_agent_invocations_total"
    with store.write() as connection:
        for number in range(AGENTS_MAX + 5):
            agent = totals.bounded_agent(connection, "triage", f"agent{number}", metric)
            totals.add(connection, "triage", [Increment(metric, canonical({"agent": agent}), 1)])
        assert totals.bounded_agent(connection, "triage", "agent0", metric) == "agent0"
        assert totals.bounded_agent(connection, "triage", "new", metric) == "other"
        assert totals.bounded_agent(connection, "digest", "new", metric) == "new"
    counted = {json.loads(labels)["agent"]: value for (_job, _metric, labels), value in values(store).items()}
    assert len(counted) == AGENTS_MAX + 1
    assert counted["other"] == 5
