"""What the collector computes from the record."""

import math
from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from taskpilot.domain import instruments
from taskpilot.domain.instruments import COUNTERS, HISTOGRAMS
from taskpilot.store import totals
from taskpilot.store.database import Store
from taskpilot.store.schedules import begin_pause, end_pause
from taskpilot.telemetry.metrics import JobFacts, StoreCollector, exposition, registry_of, snapshot_of
from tests.servers.recorded import T0, add_decision, finished_run

TRIAGE = JobFacts(
    "triage",
    model="gpt-4o",
    tools=("create_task",),
    agents=("planner",),
    deadline_micros=60_000_000,
    max_success_gap_micros=90_000_000,
    next_fire=datetime(2026, 12, 24, 8, tzinfo=UTC),
)


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(text.decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(text: bytes, name: str, **labels: str) -> float | None:
    found = [number for (series, pairs), number in samples(text).items() if series == name and set(labels.items()) <= pairs]
    assert len(found) <= 1, f"{name}{labels} is not one series"
    return found[0] if found else None


def test_counters_are_the_totals_in_their_unit(store: Store) -> None:
    finished_run(store)
    finished_run(store)
    text = exposition(snapshot_of(store, "triage"))
    assert value(text, "taskpilot_runs_total", status="succeeded", job_name="triage", deployment="testing") == 2
    assert value(text, "taskpilot_llm_cost_usd_total", model="gpt-4o", agent="planner") == 0.00404


def test_every_series_names_its_deployment_and_job_and_none_names_a_run(store: Store) -> None:
    run_id = finished_run(store)
    text = exposition(snapshot_of(store, "triage"), [TRIAGE])
    for name, labels in samples(text):
        assert {("deployment", "testing"), ("job_name", "triage")} <= labels, name
    assert run_id not in text.decode()


def test_known_label_sets_are_zero_before_a_first_run(store: Store) -> None:
    text = exposition(snapshot_of(store, "triage"), [TRIAGE])
    assert value(text, "taskpilot_runs_total", status="failed") == 0
    assert value(text, "taskpilot_llm_tokens_total", model="gpt-4o", agent="planner", kind="cached_input") == 0
    assert value(text, "taskpilot_tool_calls_total", tool="create_task", status="denied") == 0
    assert value(text, "taskpilot_run_duration_seconds_count") == 0
    names = {name for name, _ in samples(text)}
    # The channels of the settings are not known here.
    without = {instruments.FEEDBACK.name, instruments.NOTICES.name}
    seeded = {one.name for one in COUNTERS} - without | {f"{one.name}_sum" for one in HISTOGRAMS}
    assert seeded <= names


def test_a_zero_does_not_hide_what_was_counted(store: Store) -> None:
    finished_run(store, status="failed")
    text = exposition(snapshot_of(store, "triage"), [TRIAGE])
    assert value(text, "taskpilot_runs_total", status="failed") == 1
    assert value(text, "taskpilot_runs_total", status="succeeded") == 0


def test_buckets_are_cumulative_and_an_older_bound_counts_in_the_next(store: Store) -> None:
    name = instruments.LLM_CALL_DURATION.name
    with store.write() as connection:
        for micros in (50_000, 100_000, 100_001, 500_000_000):
            totals.add(connection, "triage", totals.observed(instruments.LLM_CALL_DURATION, micros, model="m"))
        totals.add(connection, "triage", [totals.Increment(f"{name}_bucket", totals.canonical({"model": "m", "le": "0.3"}), 1)])
    text = exposition(snapshot_of(store, "triage"))
    assert [value(text, f"{name}_bucket", le=le) for le in ("0.1", "0.25", "0.5", "120.0", "+Inf")] == [2, 3, 4, 4, 5]
    assert value(text, f"{name}_sum") == 500.250001


def test_gauges_say_the_last_values(store: Store) -> None:
    finished_run(store)
    text = exposition(snapshot_of(store, "triage"), [TRIAGE])
    assert value(text, "taskpilot_run_last_success_timestamp_seconds") == T0 / 1e6 + 10
    assert value(text, "taskpilot_run_last_status", status="succeeded") == 1
    assert value(text, "taskpilot_run_last_status", status="failed") == 0
    assert value(text, "taskpilot_run_last_cost_usd") == 0.00202
    assert value(text, "taskpilot_job_deadline_seconds") == 60
    assert value(text, "taskpilot_job_max_success_gap_seconds") == 90
    assert value(text, "taskpilot_job_next_fire_timestamp_seconds") == TRIAGE.next_fire.timestamp()  # type: ignore[union-attr]
    assert value(text, "taskpilot_store_info", store_id=store.store_id) == 1
    assert value(text, "taskpilot_build_info") == 1


def test_what_waits_for_a_person_is_counted(store: Store) -> None:
    run_id = finished_run(store, status="waiting")
    cancelled = finished_run(store, status="cancelled")
    add_decision(store, cancelled, "k0", verdict="require_approval", status="pending")
    assert value(exposition(snapshot_of(store, "triage")), "taskpilot_approvals_pending") == 0
    add_decision(store, run_id, "k1", verdict="require_approval", status="pending")
    assert value(exposition(snapshot_of(store, "triage")), "taskpilot_approvals_pending") == 1


def test_a_pause_is_a_gauge_of_its_job_alone(store: Store) -> None:
    other = JobFacts("other")
    for paused in (0, 1, 0):
        text = exposition(snapshot_of(store), [TRIAGE, other])
        assert value(text, "taskpilot_job_paused", job_name="triage") == paused
        assert value(text, "taskpilot_job_paused", job_name="other") == 0
        with store.write() as connection:
            (end_pause if paused else begin_pause)(connection, "triage", by="anna", note="", now=datetime(2026, 12, 24, 8, tzinfo=UTC))


def test_an_unpriced_last_run_has_no_cost_and_a_push_takes_the_old_one_away(store: Store) -> None:
    finished_run(store)
    with store.write() as connection:
        totals.set_state(connection, "triage", last_cost_nano=None)
    snapshot = snapshot_of(store, "triage")
    assert value(exposition(snapshot), "taskpilot_run_last_cost_usd") is None
    pushed = registry_of(StoreCollector(snapshot, unknown_as_nan=True)).get_sample_value(
        "taskpilot_run_last_cost_usd", {"deployment": "testing", "job_name": "triage"}
    )
    assert pushed is not None
    assert math.isnan(pushed)


def test_all_jobs_stand_in_one_exposition(store: Store) -> None:
    finished_run(store, "triage")
    finished_run(store, "digest")
    text = exposition(snapshot_of(store), [JobFacts("new")])
    assert value(text, "taskpilot_runs_total", status="succeeded", job_name="digest") == 1
    assert value(text, "taskpilot_runs_total", status="succeeded", job_name="new") == 0


def test_hostile_label_values_stay_inside_their_quotes(store: Store) -> None:
    evil = 'x"} 1\ntaskpilot_runs_total{status="succeeded'
    with store.write() as connection:
        totals.add(connection, "triage", [totals.count(instruments.LLM_UNPRICED, 3, model=evil)])
    assert value(exposition(snapshot_of(store, "triage")), "taskpilot_llm_unpriced_calls_total", model=evil) == 3


def test_a_total_that_this_version_does_not_know_harms_nothing(store: Store) -> None:
    with store.write() as connection:
        totals.add(connection, "triage", [totals.Increment("taskpilot_of_tomorrow_total", "{}", 1), totals.Increment("x", "no json", 1)])
    assert b"tomorrow" not in exposition(snapshot_of(store, "triage"))
