"""Pushes against a real Pushgateway and a real Prometheus, and against gateways that are no help."""

import multiprocessing
import os
import stat
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskpilot.files import WaitBudget, file_lock
from taskpilot.store import totals
from taskpilot.store.database import Store
from taskpilot.store.metrics_queries import pending_jobs
from taskpilot.telemetry.gateway import Gateway, GatewayUnreachable, PushResult, foreign_store
from taskpilot.telemetry.metrics import JobFacts
from tests.servers.bad_gateway import answering, dead, dripping, hanging
from tests.servers.prometheus import prometheus
from tests.servers.pushgateway import Pushgateway, pushgateway
from tests.servers.recorded import finished_run, job_state, opened, total
from tests.stopwatch import is_within, own_seconds

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TRIAGE = JobFacts("triage", model="gpt-4o", agents=("planner",))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushgateway]:
    """A Pushgateway; each test has its own deployment in it."""
    with pushgateway(tmp_path_factory.mktemp("pushgateway")) as running:
        yield running


def at(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


def pending(store: Store, moment: datetime = NOON) -> list[str]:
    with store.read() as connection:
        return pending_jobs(connection, moment)


def run_and_push(home: Path, url: str, status: str) -> None:
    store = opened(home)
    finished_run(store, status=status)
    result = Gateway(store, url, home).push(TRIAGE, seconds=10)
    store.close()
    os._exit(0 if result.delivered else 1)


@pytest.mark.slow
def test_runs_of_separate_processes_add_up_in_prometheus(home: Path, store: Store, gateway: Pushgateway, tmp_path: Path) -> None:
    with prometheus(tmp_path, [f"127.0.0.1:{gateway.port}"]) as server:
        Gateway(store, gateway.url, home).push(TRIAGE, seconds=10)
        server.until('taskpilot_runs_total{status="succeeded",job="taskpilot",job_name="triage"}', lambda value: value == 0)
        for status in ("succeeded", "succeeded", "succeeded", "failed"):
            process = multiprocessing.get_context("spawn").Process(target=run_and_push, args=(home, gateway.url, status))
            process.start()
            process.join(200)
            assert process.exitcode == 0
        runs = 'sum(taskpilot_runs_total{deployment="testing"})'
        assert server.until(runs, lambda value: value == 4) == 4
        assert server.value('taskpilot_runs_total{deployment="testing",status="succeeded"}') == 3
        assert server.value('taskpilot_runs_total{deployment="testing",status="failed"}') == 1
        assert server.value("taskpilot_run_last_success_timestamp_seconds") == job_state(store).last_success / 1e6
        assert server.value('taskpilot_run_last_status{status="failed"}') == 1
        assert server.value("taskpilot_llm_cost_usd_total") == 4 * 0.00202
        exact = "sum(taskpilot_runs_total - (taskpilot_runs_total offset 1m or taskpilot_runs_total * 0))"
        assert server.value(exact) == 4
        labels = {name for series in server.query('{job="taskpilot"}') for name in series["metric"]}
        assert "run_id" not in labels
        assert {"deployment", "job_name"} <= labels
    assert pending(store) == []


def test_a_delivered_job_is_pending_again_after_its_next_change(home: Path, gateway: Pushgateway) -> None:
    store = opened(home, "changes")
    finished_run(store)
    assert pending(store) == ["triage"]
    assert Gateway(store, gateway.url, home).push(TRIAGE, seconds=10) == PushResult(delivered=True, pending=False)
    assert pending(store) == []
    finished_run(store)
    assert pending(store) == ["triage"]
    store.close()


def test_a_push_that_timed_out_stays_pending_until_thirty_seconds_later(home: Path, gateway: Pushgateway) -> None:
    store = opened(home, "timeouts")
    finished_run(store)
    with hanging() as slow:
        # Time enough for a busy machine to come as far as to ask.
        result = Gateway(store, slow.url, home, now=at(NOON)).push(TRIAGE, seconds=2)
    assert (result.delivered, result.pending) == (False, True)
    soon, later = NOON + timedelta(seconds=29), NOON + timedelta(seconds=30)
    assert Gateway(store, gateway.url, home, now=at(soon)).push(TRIAGE, seconds=10) == PushResult(delivered=True, pending=True)
    assert pending(store, soon) == ["triage"]
    assert pending(store, later) == ["triage"]
    assert Gateway(store, gateway.url, home, now=at(later)).push(TRIAGE, seconds=10) == PushResult(delivered=True, pending=False)
    assert pending(store, later) == []
    store.close()


def test_a_change_that_comes_while_a_push_is_under_way_is_still_pending(home: Path) -> None:
    store = opened(home, "race")
    finished_run(store)

    def busy_clock() -> datetime:
        return NOON

    with answering(200) as server:
        version = job_state(store).version
        with store.write() as connection:
            totals.mark_dirty(connection, "triage")
        result = Gateway(store, server.url, home, now=busy_clock).push(TRIAGE, seconds=30)
        assert result == PushResult(delivered=True, pending=False)
        assert job_state(store).pushed_version == version + 1
    store.close()


@pytest.mark.parametrize("bad", [hanging, dripping])
def test_a_gateway_that_keeps_us_waiting_is_left_in_time(home: Path, store: Store, bad: Callable[[], object]) -> None:
    finished_run(store)
    with bad() as server:  # type: ignore[attr-defined]
        start = own_seconds()
        result = Gateway(store, server.url, home, now=at(NOON)).push(TRIAGE, seconds=3.0)
        assert own_seconds() - start < 4.0
    assert not result.delivered
    state = job_state(store)
    assert state.push_timed_out_at is not None
    assert "no answer" in state.push_error
    assert total(store, "taskpilot_telemetry_failures_total", sink="gateway") == 1
    assert pending(store) == ["triage"]


def test_a_dead_gateway_is_pending_but_nothing_can_land_late(home: Path, store: Store, gateway: Pushgateway) -> None:
    finished_run(store)
    version = job_state(store).version
    with dead() as server:
        assert not Gateway(store, server.url, home).push(TRIAGE, seconds=10).delivered
    state = job_state(store)
    assert state.push_timed_out_at is None
    assert "refused" in state.push_error
    assert state.version == version, "counting the failure must not owe one more push"
    assert Gateway(store, gateway.url, home).push(TRIAGE, seconds=10) == PushResult(delivered=True, pending=False)
    assert gateway.value("taskpilot_telemetry_failures_total", deployment="testing", sink="gateway") == 1


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_2xx_of_a_gateway_is_success(home: Path, store: Store, status: int) -> None:
    finished_run(store)
    with answering(status, b"") as server:
        assert Gateway(store, server.url, home).push(TRIAGE, seconds=30).delivered


@pytest.mark.parametrize("status", [400, 401, 302, 500])
def test_an_answer_that_is_no_2xx_is_a_failure_with_its_cause(home: Path, store: Store, status: int) -> None:
    finished_run(store)
    with answering(status, b"pushed metrics are \x1b[31minvalid", headers="Location: http://127.0.0.1:1/\r\n") as server:
        result = Gateway(store, server.url, home).push(TRIAGE, seconds=30)
    assert not result.delivered
    assert result.error == f"it answered {status}: pushed metrics are \\x1b[31minvalid"
    assert job_state(store).push_timed_out_at is None


def test_a_proxy_that_gave_up_may_still_deliver_later(home: Path, store: Store) -> None:
    finished_run(store)
    with answering(504) as server:
        Gateway(store, server.url, home, now=at(NOON)).push(TRIAGE, seconds=30)
    assert job_state(store).push_timed_out_at is not None


def test_the_head_of_an_answer_is_enough(home: Path, store: Store) -> None:
    finished_run(store)
    with answering(200, drip_body=True) as server:
        assert Gateway(store, server.url, home).push(TRIAGE, seconds=30).delivered


def test_a_password_in_the_url_is_sent_but_never_shown(home: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    finished_run(store)
    with answering(403) as server:
        result = Gateway(store, server.url.replace("//", "//ann:s3cret%21@"), home).push(TRIAGE, seconds=30)
        assert b"Authorization: Basic YW5uOnMzY3JldCE=" in server.received[0]
        assert server.received[0].startswith(b"POST /metrics/job/taskpilot/deployment/testing/job_name/triage ")
    assert "s3cret" not in (result.error or "")
    with pytest.raises(GatewayUnreachable) as raised, dead() as gone:
        foreign_store(gone.url.replace("//", "//ann:s3cret%21@"), "testing", "triage", "x")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "http://127.0.0.1:notaport", "http://[::1"])
def test_a_url_that_is_none_is_an_error_and_no_exception(home: Path, store: Store, url: str) -> None:
    finished_run(store)
    result = Gateway(store, url, home).push(TRIAGE, seconds=1)
    assert not result.delivered
    assert result.error


def test_reading_and_pushing_wait_for_the_lock_of_the_job(home: Path, store: Store, gateway: Pushgateway) -> None:
    finished_run(store)
    lock = home / "locks" / "triage.gateway.lock"
    results: list[PushResult] = []
    with file_lock(lock, WaitBudget(1)) as got:
        assert got
        assert is_within(0.5, lambda: results.append(Gateway(store, gateway.url, home).push(TRIAGE, seconds=0.2)))
    assert {(result.delivered, result.pending) for result in results} == {(False, True)}
    assert pending(store) == ["triage"]
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert Gateway(store, gateway.url, home).push(TRIAGE, seconds=30).delivered


def test_a_change_that_another_process_pushed_meanwhile_is_not_pushed_again(home: Path, store: Store) -> None:
    finished_run(store)
    with answering(200) as server:
        for _ in range(2):
            assert Gateway(store, server.url, home).push(TRIAGE, seconds=30, only_if_pending=True) == PushResult(
                delivered=True, pending=False
            )
        assert len(server.received) == 1
        finished_run(store)
        Gateway(store, server.url, home).push(TRIAGE, seconds=30, only_if_pending=True)
        Gateway(store, server.url, home).push(TRIAGE, seconds=30)
        assert len(server.received) == 3


def test_what_is_pending_is_pushed_by_the_next_process(home: Path, gateway: Pushgateway) -> None:
    store = opened(home, "owing")
    for job in ("triage", "digest", "housekeeping"):
        finished_run(store, job)
    results = Gateway(store, gateway.url, home).push_pending(lambda job: JobFacts(job) if job == "triage" else None, seconds=10)
    assert {job: result.delivered for job, result in results.items()} == {"triage": True, "digest": True, "housekeeping": True}
    assert pending(store) == []
    assert gateway.value("taskpilot_runs_total", deployment="owing", job_name="digest", status="succeeded") == 1
    store.close()


def test_pushing_what_is_pending_stops_at_a_gateway_that_hangs(home: Path, store: Store) -> None:
    for job in ("a", "b", "c"):
        finished_run(store, job)
    with hanging() as server:
        start = own_seconds()
        results = Gateway(store, server.url, home).push_pending(lambda _job: None, seconds=3.0)
        assert own_seconds() - start < 4.0
    assert list(results) == ["a"]


def test_a_push_without_facts_leaves_the_limits_as_they_were(home: Path, gateway: Pushgateway) -> None:
    store = opened(home, "limits")
    finished_run(store)
    Gateway(store, gateway.url, home).push(JobFacts("triage", deadline_micros=60_000_000, next_fire=NOON), seconds=30)
    Gateway(store, gateway.url, home).push_pending(lambda _job: None, seconds=30)
    finished_run(store)
    Gateway(store, gateway.url, home).push_pending(lambda _job: None, seconds=30)
    assert gateway.value("taskpilot_runs_total", deployment="limits", status="succeeded") == 2
    assert gateway.value("taskpilot_job_next_fire_timestamp_seconds", deployment="limits") == NOON.timestamp()
    # A schedule that was taken away must not look overdue.
    Gateway(store, gateway.url, home).push(JobFacts("triage"), seconds=30)
    gone = gateway.value("taskpilot_job_next_fire_timestamp_seconds", deployment="limits")
    assert gone is not None
    assert gone != gone  # noqa: PLR0124  NaN
    store.close()


def test_a_group_that_another_store_fills_is_seen(home: Path, tmp_path: Path, gateway: Pushgateway) -> None:
    store, other = opened(home, "shared"), opened(tmp_path / "other", "shared")
    finished_run(store)
    assert foreign_store(gateway.url, "shared", "triage", store.store_id) is None
    Gateway(store, gateway.url, home).push(TRIAGE, seconds=30)
    assert foreign_store(gateway.url, "shared", "triage", store.store_id) is None
    assert foreign_store(gateway.url, "shared", "triage", other.store_id) == store.store_id
    assert foreign_store(gateway.url, "shared", "digest", other.store_id) is None
    store.close()
    other.close()


def test_a_group_is_deleted(home: Path, gateway: Pushgateway) -> None:
    store = opened(home, "deleted")
    finished_run(store)
    Gateway(store, gateway.url, home).push(TRIAGE, seconds=30)
    assert gateway.value("taskpilot_runs_total", deployment="deleted", status="succeeded") == 1
    Gateway(store, gateway.url, home).delete("triage", seconds=30)
    assert gateway.forgets('deployment="deleted"')
    assert gateway.value("taskpilot_runs_total", deployment="deleted", status="succeeded") is None
    store.close()


def test_a_gateway_with_a_nonsense_answer_counts_as_unreachable() -> None:
    for body in (b"<html>", b"[]", b'{"data": 3}', b'{"data": [3, {"labels": {}}]}'):
        with answering(200, body) as server:
            if body.startswith(b'{"data": ['):
                assert foreign_store(server.url, "d", "j", "s") is None
            else:
                with pytest.raises(GatewayUnreachable, match="gave no usable answer") as refused:
                    foreign_store(server.url, "d", "j", "s")
                assert "TASKPILOT_PUSHGATEWAY_URL" in (refused.value.hint or "")


def test_the_gateway_accepts_every_metric_and_keeps_its_consistency(home: Path, gateway: Pushgateway) -> None:
    store = opened(home, "complete")
    for job in ("triage", "digest"):
        finished_run(store, job, status="failed")
        facts = JobFacts(job, model="m", tools=("a",), agents=("b",), deadline_micros=1, max_success_gap_micros=1, next_fire=NOON)
        assert Gateway(store, gateway.url, home).push(facts, seconds=30).delivered
    with urllib.request.urlopen(f"{gateway.url}/metrics", timeout=60) as answer:
        assert answer.status == 200
    assert gateway.value("push_failure_time_seconds", deployment="complete", job_name="digest") == 0
    store.close()
