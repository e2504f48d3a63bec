"""All telemetry of one run: what arrives, and that no server without an answer is waited for."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from taskpilot.config import load
from taskpilot.domain.times import utc_now
from taskpilot.store.database import Store
from taskpilot.store.metrics_queries import pending_jobs
from taskpilot.telemetry.metrics import JobFacts
from taskpilot.telemetry.publish import Targets, publish
from taskpilot.telemetry.traces.collector import Collector
from tests.servers.bad_gateway import dead, dripping, hanging
from tests.servers.collector import grpc_collector, http_collector
from tests.servers.pushgateway import Pushgateway, pushgateway
from tests.servers.recorded import finished_run, opened, total
from tests.stopwatch import is_within

TRIAGE = JobFacts("triage", model="gpt-4o")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushgateway]:
    """A Pushgateway; each test has its own deployment in it."""
    with pushgateway(tmp_path_factory.mktemp("pushgateway")) as running:
        yield running


def pending(store: Store) -> list[str]:
    with store.read() as connection:
        return pending_jobs(connection, utc_now())


def test_a_collector_is_asked_where_the_settings_say(tmp_path: Path) -> None:
    (tmp_path / "taskpilot.toml").touch()
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/own"}
    assert Targets.of(load(root=tmp_path, environ=environ)).collector == Collector("http://c:1/own", "http/protobuf")
    assert Targets.of(load(root=tmp_path, environ=environ | {"OTEL_ENABLED": "false"})).collector is None


def test_everything_arrives_where_everybody_listens(home: Path, gateway: Pushgateway) -> None:
    store = opened(home, "whole")
    finished_run(store, "digest")
    run_id = finished_run(store)
    with http_collector() as received:
        targets = Targets(home, gateway.url, Collector(f"{received.endpoint}/v1/traces", "http/protobuf"))
        publish(store, targets, run_id, TRIAGE, total_seconds=5)
    assert sorted(span.name for span in received.spans) == ["invoke_workflow digest", "invoke_workflow triage"]
    assert (home / "traces.jsonl").read_text().count("\n") == 2
    pushed = gateway.value("taskpilot_llm_cost_usd_total", deployment="whole", job_name="triage")
    written = json.loads((home / "metrics.json").read_text())["jobs"]["triage"]
    assert pushed == written["totals"]['taskpilot_llm_cost_usd_total{agent="planner",model="gpt-4o"}'] == written["last_run"]["cost_usd"]
    assert gateway.value("taskpilot_runs_total", deployment="whole", job_name="digest", status="succeeded") == 1
    assert pending(store) == []
    assert total(store, "taskpilot_telemetry_failures_total", sink="collector") == 0
    store.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("bad", [dead, hanging, dripping])
def test_no_server_is_waited_for_longer_than_half_a_second(
    home: Path, store: Store, protocol: str, bad: Callable[[], AbstractContextManager[Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    with bad() as server:
        targets = Targets(home, server.url, Collector(server.url, protocol))
        # The first time pays the imports, which are not counted: they cost the same where a server listens.
        runs = [finished_run(store)]
        publish(store, targets, runs[0], TRIAGE)

        def again() -> None:
            runs.append(finished_run(store))
            publish(store, targets, runs[-1], TRIAGE)

        assert is_within(0.9, again), "half a second, and what two busy cores add to it"
    assert capfd.readouterr() == ("", "")
    assert pending(store) == ["triage"]
    for sink in ("gateway", "collector"):
        assert total(store, "taskpilot_telemetry_failures_total", sink=sink) == len(runs)
    assert (home / "traces.jsonl").read_text().count("\n") == len(runs)
    assert json.loads((home / "metrics.json").read_text())["jobs"]["triage"]["last_run"]["run_id"] == runs[-1]


def test_what_a_dead_gateway_left_pending_arrives_with_the_next_run_of_another_job(home: Path, gateway: Pushgateway) -> None:
    store = opened(home, "later")
    with dead() as server:
        publish(store, Targets(home, server.url), finished_run(store), TRIAGE)
    assert gateway.value("taskpilot_runs_total", deployment="later") is None
    publish(store, Targets(home, gateway.url), finished_run(store, "digest"), JobFacts("digest"), total_seconds=5)
    assert gateway.value("taskpilot_runs_total", deployment="later", job_name="triage", status="succeeded") == 1
    assert pending(store) == []
    store.close()


def test_a_skip_pushes_without_touching_traces(home: Path, gateway: Pushgateway) -> None:
    store = opened(home, "skip")
    finished_run(store)
    publish(store, Targets(home, gateway.url, Collector("http://127.0.0.1:1", "grpc")), None, TRIAGE, total_seconds=5)
    assert gateway.value("taskpilot_runs_total", deployment="skip", status="succeeded") == 1
    assert not (home / "traces.jsonl").exists()
    store.close()


def test_a_state_dir_that_takes_no_files_breaks_nothing(home: Path, store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    run_id = finished_run(store)
    (home / "locks").write_text("in the way")
    publish(store, Targets(home, "http://127.0.0.1:1"), run_id, TRIAGE)
    assert capfd.readouterr() == ("", "")
    assert pending(store) == ["triage"]
    assert total(store, "taskpilot_telemetry_failures_total", sink="traces") == 1
    assert total(store, "taskpilot_telemetry_failures_total", sink="metrics_file") == 1


_ONE = """
import sys, time
from pathlib import Path
from taskpilot.telemetry.metrics import JobFacts
from taskpilot.telemetry.publish import Targets, publish, _import_libraries
from taskpilot.telemetry.traces.collector import Collector, sender
from tests.servers.recorded import finished_run, opened

home, url, endpoint = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
store = opened(home)
collector = Collector(endpoint, "grpc")
targets = Targets(home, url, collector)
_import_libraries(targets)
sender(collector)
run_id = finished_run(store)
print("ready", flush=True)
sys.stdin.readline()
start = time.monotonic()
publish(store, targets, run_id, JobFacts("triage"), total_seconds=float(sys.argv[4]))
print(time.monotonic() - start)
store.close()
"""


def together(home: Path, url: str, endpoint: str, seconds: float) -> tuple[float, float]:
    """Eight processes of one job publish at once: the longest of their publishes, and until the last process has gone."""
    root = Path(__file__).parents[3]
    arguments = [sys.executable, "-W", "error", "-c", _ONE, str(home), url, endpoint, str(seconds)]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        start_one = partial(subprocess.Popen, arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=root)
        every: list[subprocess.Popen[str]] = [stack.enter_context(start_one()) for _ in range(8)]
        for process in every:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        for process in every:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        ended = [process.communicate(timeout=200) for process in every]
        took = time.monotonic() - start
    assert [err for _, err in ended] == [""] * 8
    return max(float(out) for out, _ in ended), took


@pytest.mark.parametrize("bad", [dead, hanging, dripping])
@pytest.mark.slow
def test_eight_runs_that_end_together_wait_half_a_second_at_most(
    home: Path, gateway: Pushgateway, bad: Callable[[], AbstractContextManager[Any]]
) -> None:
    store = opened(home)
    with grpc_collector() as received:
        # As long as they like: what it takes where everybody answers, on a machine as busy as it is.
        alive = together(home, gateway.url, received.endpoint, 20)
    assert len(received.spans) == 8
    assert gateway.value("taskpilot_runs_total", deployment="testing", status="succeeded") == 8
    assert pending(store) == []
    with bad() as server:
        away = together(home, server.url, server.url, 0.5)
    print(f"longest publish, and all processes: alive {alive[0]:.2f} {alive[1]:.2f} s, away {away[0]:.2f} {away[1]:.2f} s")  # noqa: T201  seen with -rP
    assert away[0] < max(alive[0], 0.25) + 0.6
    # Nothing lingers at the exit either: gRPC and OpenTelemetry left to themselves take ten seconds.
    assert away[1] < alive[1] + 2
    assert pending(store) == ["triage"]
    assert json.loads((home / "metrics.json").read_text())["jobs"]["triage"]["totals"]["taskpilot_attempts_total"] == 16
    store.close()
