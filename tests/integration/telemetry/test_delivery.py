"""What a dead collector missed arrives once when it is back: over gRPC and HTTP, from the record alone."""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from taskpilot.domain.times import utc_now
from taskpilot.store import tables
from taskpilot.store.database import Store
from taskpilot.store.trace_queries import claim_due_traces, runs_with_undelivered_traces
from taskpilot.telemetry.metrics import JobFacts
from taskpilot.telemetry.publish import Targets, publish
from taskpilot.telemetry.traces.collector import Collector
from taskpilot.telemetry.traces.delivery import CLAIM, Delivery, send_pending_traces
from taskpilot.telemetry.traces.file import write_pending_traces
from tests.servers.bad_gateway import dead, hanging
from tests.servers.collector import Received, grpc_collector, http_collector
from tests.servers.recorded import SECOND, T0, add_step, finished_run, opened, total

Make = Callable[[], AbstractContextManager[Received]]
BOTH = [("grpc", grpc_collector), ("http/protobuf", http_collector)]


def at(endpoint: str, protocol: str) -> Collector:
    return Collector(endpoint + ("" if protocol == "grpc" else "/v1/traces"), protocol)


def missed(store: Store, home: Path, number: int, job: str = "triage") -> list[str]:
    """Runs whose spans are written and pending; gives their ids."""
    every = [finished_run(store, job) for _ in range(number)]
    while write_pending_traces(store, home, due_at=utc_now()).spans:
        pass
    return every


def deliver(store: Store, collector: Collector, *, seconds: float = 20, now: Callable[[], datetime] = utc_now) -> Delivery:
    return send_pending_traces(store, collector, seconds=seconds, now=now)


def later() -> datetime:
    """When a claim of now has ended."""
    return utc_now() + CLAIM + timedelta(seconds=1)


@pytest.mark.parametrize(("protocol", "make"), BOTH)
def test_runs_that_a_dead_collector_missed_arrive_once_with_their_true_times(store: Store, home: Path, protocol: str, make: Make) -> None:
    with dead() as server:
        targets = Targets(home, collector=at(server.url, protocol))
        for _ in range(3):
            run_id = finished_run(store)
            add_step(store, run_id, "ask", "planner", model="gpt-4o")
            publish(store, targets, run_id, JobFacts("triage"))
        assert deliver(store, at(server.url, protocol), seconds=1) == Delivery(pending=3, error="nothing accepts a connection there")
    with make() as received:
        collector = at(received.endpoint, protocol)
        assert deliver(store, collector) == Delivery(spans=6, runs=3)
        assert deliver(store, collector) == Delivery()
        publish(store, Targets(home, collector=collector), finished_run(store), JobFacts("triage"), total_seconds=5)
        assert deliver(store, collector) == Delivery()
    assert Counter(span.name for span in received.spans) == {"invoke_workflow triage": 4, "chat gpt-4o": 3}
    assert len({span.span_id for span in received.spans}) == 7
    chats = [span for span in received.spans if span.name == "chat gpt-4o"]
    assert {(chat.start_time_unix_nano, chat.end_time_unix_nano) for chat in chats} == {((T0 + SECOND) * 1000, (T0 + 2 * SECOND) * 1000)}


@pytest.mark.parametrize(("protocol", "make"), BOTH)
def test_what_a_collector_rejects_of_a_request_is_reported_and_not_sent_again(store: Store, home: Path, protocol: str, make: Make) -> None:
    missed(store, home, 3)
    with make() as received:
        received.rejects = 1
        assert deliver(store, at(received.endpoint, protocol)) == Delivery(spans=2, runs=3, rejected=1, error="too old")
        assert deliver(store, at(received.endpoint, protocol)) == Delivery()
    assert len(received.requests) == 1


@pytest.mark.parametrize(("protocol", "make"), BOTH)
def test_a_run_that_is_refused_takes_no_other_with_it(store: Store, home: Path, protocol: str, make: Make) -> None:
    missed(store, home, 2)
    missed(store, home, 1, "broken")
    with make() as received:
        received.refuses = "invoke_workflow broken"
        delivery = deliver(store, at(received.endpoint, protocol))
        assert (delivery.spans, delivery.runs, delivery.refused, delivery.pending) == (2, 2, 1, 0)
        assert delivery.error
        received.refuses = None
        assert deliver(store, at(received.endpoint, protocol)) == Delivery()
    assert [span.name for span in received.spans] == ["invoke_workflow triage"] * 2


@pytest.mark.parametrize(("protocol", "make"), BOTH)
def test_a_collector_that_dies_in_between_gets_each_run_once(store: Store, home: Path, protocol: str, make: Make) -> None:
    every = missed(store, home, 5)
    with store.write() as connection:
        template = {"attempt": 1, "scope": "", "kind": "step", "status": "succeeded", "make": 0, "input_digest": "", "ordinal": 0}
        rows = [
            {**template, "id": f"{run_id}{n}", "key": f"{run_id}{n}", "name": "n", "run_id": run_id, "started_at": T0, "ended_at": T0 + 1}
            for run_id in every
            for n in range(300)
        ]
        connection.execute(tables.steps.insert(), rows)
    with make() as received:
        received.after = 2
        delivery = deliver(store, at(received.endpoint, protocol))
        assert (delivery.runs, delivery.pending) == (2, 3)
        assert delivery.error
        received.after = None
        assert deliver(store, at(received.endpoint, protocol)) == Delivery(spans=903, runs=3)
    assert max(Counter(span.span_id for span in received.spans).values()) == 1
    assert len(received.spans) == 5 * 301


def test_a_collector_that_does_not_answer_may_have_taken_it_and_is_asked_again_a_minute_later(store: Store, home: Path) -> None:
    missed(store, home, 1)
    with hanging() as server:
        delivery = deliver(store, at(server.url, "http/protobuf"), seconds=1.5)
    assert (delivery.runs, delivery.pending) == (0, 1)
    with http_collector() as received:
        collector = at(received.endpoint, "http/protobuf")
        assert deliver(store, collector) == Delivery(pending=1)
        assert deliver(store, collector, now=later) == Delivery(spans=1, runs=1)


def test_a_deliverer_that_was_killed_leaves_its_claim_for_a_minute(store: Store, home: Path) -> None:
    (run_id,) = missed(store, home, 1)
    with store.write() as connection:
        assert list(claim_due_traces(connection, utc_now(), until=utc_now() + CLAIM, limit=5)) == [run_id]
    with grpc_collector() as received:
        assert deliver(store, at(received.endpoint, "grpc")) == Delivery(pending=1)
        assert deliver(store, at(received.endpoint, "grpc"), now=later).runs == 1


def test_a_clock_that_was_set_back_holds_nothing_up(store: Store, home: Path) -> None:
    missed(store, home, 1)
    with grpc_collector() as received:
        long_ago = utc_now() - timedelta(days=3)
        assert deliver(store, at(received.endpoint, "grpc"), now=lambda: long_ago).runs == 1


def test_four_deliverers_at_once_send_nothing_twice(store: Store, home: Path) -> None:
    missed(store, home, 200)
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  shown where it fails
    delivered: list[int] = []
    with http_collector() as received:
        collector = at(received.endpoint, "http/protobuf")
        stores = [opened(home) for _ in range(4)]
        threads = [Thread(target=lambda one=one: delivered.append(deliver(one, collector).runs)) for one in stores]
        random.Random(seed).shuffle(threads)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(delivered) == 200
    assert len({span.span_id for span in received.spans}) == len(received.spans) == 200


def test_a_run_that_continues_meanwhile_has_its_first_attempt_delivered(store: Store, home: Path) -> None:
    (run_id,) = missed(store, home, 1)
    with store.write() as connection:
        connection.execute(tables.runs.update().where(tables.runs.c.id == run_id).values(status="running", attempts=2))
    with grpc_collector() as received:
        assert deliver(store, at(received.endpoint, "grpc")).runs == 1
    (root,) = received.spans
    assert {one.key: one.value.string_value for one in root.attributes}["taskpilot.run.status"] == "succeeded"


def test_nothing_is_pending_where_traces_are_off(store: Store, home: Path) -> None:
    publish(store, Targets(home), finished_run(store), JobFacts("triage"))
    with store.read() as connection:
        assert runs_with_undelivered_traces(connection) == 0


def test_a_record_that_gives_no_spans_is_pending_no_longer(store: Store, home: Path) -> None:
    (run_id,) = missed(store, home, 1)
    with store.write() as connection:
        connection.execute(tables.runs.update().where(tables.runs.c.id == run_id).values(trace_id="no hex"))
    with grpc_collector() as received:
        assert deliver(store, at(received.endpoint, "grpc")) == Delivery()
    assert received.requests == []


def test_a_publish_that_is_answered_late_counts_as_failed_and_leaves_the_spans_pending(store: Store, home: Path) -> None:
    with hanging() as server:
        publish(store, Targets(home, collector=at(server.url, "http/protobuf")), finished_run(store), JobFacts("triage"))
    assert total(store, "taskpilot_telemetry_failures_total", sink="collector") == 1
    with http_collector() as received:
        assert deliver(store, at(received.endpoint, "http/protobuf")).pending == 1
        assert deliver(store, at(received.endpoint, "http/protobuf"), now=later).runs == 1
