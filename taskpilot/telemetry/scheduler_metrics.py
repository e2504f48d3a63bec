"""The scheduler's own series, computed from the record like all others: for a scrape, and for a group of the gateway of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskpilot.domain.instruments import STORE_INFO
from taskpilot.domain.times import to_micros
from taskpilot.store.database import Store
from taskpilot.store.fires import queue_length
from taskpilot.store.runs import count_running
from taskpilot.store.schedulers import last_tick
from taskpilot.telemetry.job_facts import JobFacts
from taskpilot.telemetry.metrics import Snapshot, StoreCollector, build_info

LAST_TICK: Final = "taskpilot_scheduler_last_tick_timestamp_seconds"
RUNNING: Final = "taskpilot_scheduler_running_runs"
QUEUED: Final = "taskpilot_scheduler_queued_runs"


@dataclass(frozen=True, slots=True)
class SchedulerSnapshot:
    """How the schedulers of a store stand together at one moment."""

    deployment: str
    store_id: str
    last_tick: datetime | None
    """None where no `taskpilot serve` was ever started."""
    running: int
    queued: int


def scheduler_snapshot(store: Store) -> SchedulerSnapshot:
    """The numbers, read in one transaction. Raises StoreError or StoreBusy."""
    with store.read() as connection:
        return SchedulerSnapshot(
            deployment=store.deployment,
            store_id=store.store_id,
            last_tick=last_tick(connection),
            running=count_running(connection),
            queued=queue_length(connection),
        )


class SchedulerCollector:
    """A collector for a prometheus_client registry. `alone`: with the build and the store, which the jobs' series else bring along."""

    def __init__(self, snapshot: SchedulerSnapshot, *, alone: bool) -> None:
        self._snapshot = snapshot
        self._alone = alone

    def collect(self) -> Iterator[Any]:
        """The last tick where there was one, the running and the queued runs."""
        from prometheus_client.core import GaugeMetricFamily

        found = self._snapshot
        tick = None if found.last_tick is None else to_micros(found.last_tick) / 1_000_000
        for name, text, value in (
            (LAST_TICK, "When was a scheduler awake last?", tick),
            (RUNNING, "How many runs are running?", found.running),
            (QUEUED, "How many fires and runs wait for a place to start?", found.queued),
        ):
            if value is not None:
                family = GaugeMetricFamily(name, text, labels=["deployment"])
                family.add_metric([found.deployment], value)
                yield family
        if self._alone:
            info = GaugeMetricFamily(STORE_INFO.name, STORE_INFO.help, labels=["store_id", "deployment"])
            info.add_metric([found.store_id, found.deployment], 1)
            yield info
            yield build_info(found.deployment)


def exposition_of_server(snapshot: SchedulerSnapshot, jobs: tuple[Snapshot, Sequence[JobFacts]] | None = None) -> bytes:
    """The numbers of a server in Prometheus's text format: the scheduler's and the process's, and with `jobs` theirs."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    if jobs is not None:
        registry.register(StoreCollector(lambda: jobs[0], jobs[1]))
    registry.register(SchedulerCollector(snapshot, alone=jobs is None))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def scheduler_registry(snapshot: SchedulerSnapshot) -> Any:
    """A private registry with the scheduler's series alone: what is pushed."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(SchedulerCollector(snapshot, alone=True))
    return registry
