"""The metrics, computed from the store: a run of four seconds and a server give the same totals."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from math import inf, nan
from typing import Any

from taskpilot.domain import instruments
from taskpilot.domain.instruments import COUNTERS, GAUGES, HISTOGRAMS, Instrument
from taskpilot.domain.times import to_micros
from taskpilot.domain.version import version
from taskpilot.store.database import Store
from taskpilot.store.fires import queue_length
from taskpilot.store.metrics_queries import Total, pending_approvals, states_of, totals_of
from taskpilot.store.runs import count_running
from taskpilot.store.schedulers import last_tick
from taskpilot.store.schedules import pauses_in_force


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job as configured: its known label values, whose zeros are exported, and its limits."""

    name: str
    model: str | None = None
    tools: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    """Those that are told of it."""
    deadline_micros: int | None = None
    max_success_gap_micros: int | None = None
    next_fire: datetime | None = None
    configured: bool = True
    """False: only the job's name is known (its file is broken, or was not read); what was exported of its limits stays."""

    def label_sets(self, instrument: Instrument) -> Iterator[tuple[str, ...]]:
        """The known label values of an instrument, in the order of its labels; none where the configuration is not known."""
        own = {"model": (self.model,) if self.model else (), "tool": self.tools, "agent": self.agents, "channel": self.channels}
        return product(*(values or own.get(label, ()) for label, values in instrument.labels.items())) if self.configured else iter(())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store's numbers at one moment, for one job or for all."""

    deployment: str
    store_id: str
    job: str | None
    totals: Sequence[Total]
    states: Mapping[str, Any]
    """`job_state` rows by job."""
    approvals: Mapping[str, int]
    paused: Collection[str] = ()
    """The jobs that are paused."""

    @property
    def jobs(self) -> tuple[str, ...]:
        """Every job that has a number."""
        return tuple(sorted({total.job for total in self.totals} | set(self.states) | ({self.job} if self.job else set())))

    def version(self, job: str) -> int:
        """How often the job's ledger had changed; what a push of this snapshot delivers."""
        return int(self.states[job].version) if job in self.states else 0

    def pending(self, job: str) -> bool:
        """Whether the job's gateway group is not known to hold these numbers."""
        state = self.states.get(job)
        return state is None or state.version > state.pushed_version or state.push_timed_out_at is not None


def snapshot_of(store: Store, job: str | None = None) -> Snapshot:
    """The numbers of one job, or of all, read in one transaction. Raises StoreError or StoreBusy."""
    with store.read() as connection:
        return Snapshot(
            deployment=store.deployment,
            store_id=store.store_id,
            job=job,
            totals=totals_of(connection, job),
            states={row.job: row for row in states_of(connection, job)},
            approvals=pending_approvals(connection, job),
            paused=frozenset(pauses_in_force(connection)),
        )


@dataclass(slots=True)
class _Histogram:
    buckets: dict[float, int] = field(default_factory=dict)
    total: int = 0

    def cumulative(self, bounds: Sequence[float]) -> list[tuple[str, float]]:
        """Counts up to each bound; a bucket of an older version counts in the next larger one."""
        return [(_printed(bound), sum(count for edge, count in self.buckets.items() if edge <= bound)) for bound in (*bounds, inf)]


class StoreCollector:
    """A collector for a prometheus_client registry: the numbers of a snapshot.

    `unknown_as_nan`: a value that a job had once and has not now is NaN instead of absent. A push needs that: the gateway keeps the
    last value of a metric that is not pushed again.
    """

    def __init__(self, snapshot: Snapshot, jobs: Iterable[JobFacts] = (), *, unknown_as_nan: bool = False) -> None:
        self._snapshot = snapshot
        self._unknown_as_nan = unknown_as_nan
        known = {facts.name: facts for facts in jobs}
        self._facts = known if snapshot.job is None else {snapshot.job: known.get(snapshot.job, JobFacts(snapshot.job, configured=False))}
        self._jobs = tuple(sorted({*snapshot.jobs, *self._facts}))
        self._totals: dict[str, list[Total]] = {}
        for total in snapshot.totals:
            self._totals.setdefault(total.metric, []).append(total)

    def collect(self) -> Iterator[Any]:
        """Every counter, histogram and gauge that has data, and zeros for the label sets that are known."""
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()
        yield build_info(self._snapshot.deployment, self._snapshot.job)

    def _counters(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily

        for instrument in COUNTERS:
            values: dict[_Place, float] = dict.fromkeys(self._known_places(instrument), 0)
            for total in self._totals.get(instrument.name, ()):
                place = _place(instrument, total)
                values[place] = values.get(place, 0) + total.value
            if values:
                family = CounterMetricFamily(instrument.name, instrument.help, labels=_label_names(instrument))
                yield _filled(family, instrument, self._snapshot.deployment, values)

    def _histograms(self) -> Iterator[Any]:
        from prometheus_client.core import HistogramMetricFamily

        for instrument in HISTOGRAMS:
            values = {place: _Histogram() for place in self._known_places(instrument)}
            for total in self._totals.get(f"{instrument.name}_bucket", ()):
                one = values.setdefault(_place(instrument, total), _Histogram())
                bound = _bound(total.labels.get("le", ""))
                one.buckets[bound] = one.buckets.get(bound, 0) + total.value
            for total in self._totals.get(f"{instrument.name}_sum", ()):
                values.setdefault(_place(instrument, total), _Histogram()).total += total.value
            family = HistogramMetricFamily(instrument.name, instrument.help, labels=_label_names(instrument))
            for (job, labels), one in sorted(values.items(), key=lambda item: item[0]):
                where = [*labels, self._snapshot.deployment, str(job)]
                family.add_metric(where, one.cumulative(instrument.buckets), one.total / instrument.scale)
            if values:
                yield family

    def _gauges(self) -> Iterator[Any]:
        for instrument in GAUGES:
            found = {(job, labels): value for job in self._jobs for labels, value in self._of_job(instrument, job)}
            values: dict[_Place, float] = {place: value for place, value in found.items() if value is not None}
            if values:
                yield _gauge_family(instrument, self._snapshot.deployment, values)

    def _known_places(self, instrument: Instrument) -> Iterator["_Place"]:
        return ((job, labels) for job, facts in self._facts.items() for labels in facts.label_sets(instrument))

    def _of_job(self, instrument: Instrument, job: str) -> Iterator[tuple[tuple[str, ...], float | None]]:
        """A job's values of a gauge, by its label values."""
        snapshot, facts = self._snapshot, self._facts.get(job)
        state = snapshot.states.get(job)
        if instrument.column and state is not None:
            lapsed = self._lapsed(instrument) if state.last_completion is not None else None
            for labels in product(*instrument.labels.values()):
                value = getattr(state, instrument.column.format(**dict(zip(instrument.labels, labels, strict=True))))
                yield labels, lapsed if value is None else float(value)
        elif instrument.fact and facts is not None and facts.configured:
            value = getattr(facts, instrument.fact)
            yield (), self._lapsed(instrument) if value is None else to_micros(value) if isinstance(value, datetime) else value
        elif instrument is instruments.LAST_STATUS and state is not None and state.last_status:
            for status in dict.fromkeys((*instrument.labels["status"], state.last_status)):
                yield (status,), float(status == state.last_status)
        elif instrument is instruments.PAUSED:
            yield (), float(job in snapshot.paused)
        elif instrument is instruments.APPROVALS_PENDING:
            yield (), snapshot.approvals.get(job, 0)
        elif instrument is instruments.STORE_INFO:
            yield (snapshot.store_id,), 1

    def _lapsed(self, instrument: Instrument) -> float | None:
        return nan if self._unknown_as_nan and instrument.may_lapse else None


@dataclass(frozen=True, slots=True)
class SchedulerCollector:
    """A collector for a prometheus_client registry: all schedulers of a store together, at one moment."""

    deployment: str
    store_id: str
    last_tick: datetime | None
    """None where no `taskpilot serve` was ever started."""
    running: int
    queued: int
    alone: bool = True
    """With the build and the store, which otherwise come with the jobs' series."""

    @classmethod
    def of(cls, store: Store, *, alone: bool = True) -> "SchedulerCollector":
        """The numbers, read in one transaction. Raises StoreError or StoreBusy."""
        with store.read() as connection:
            tick, running, queued = last_tick(connection), count_running(connection), queue_length(connection)
        return cls(store.deployment, store.store_id, tick, running, queued, alone)

    def collect(self) -> Iterator[Any]:
        """The last tick where there was one, the running and the queued runs."""
        tick = None if self.last_tick is None else to_micros(self.last_tick)
        for instrument, value in ((instruments.LAST_TICK, tick), (instruments.RUNNING, self.running), (instruments.QUEUED, self.queued)):
            if value is not None:
                yield _gauge_family(instrument, self.deployment, {(None, ()): value})
        if self.alone:
            yield _gauge_family(instruments.STORE_INFO, self.deployment, {(None, (self.store_id,)): 1})
            yield build_info(self.deployment)


def exposition(snapshot: Snapshot, jobs: Iterable[JobFacts] = ()) -> bytes:
    """The snapshot in Prometheus's text format."""
    from prometheus_client import generate_latest

    return generate_latest(registry_of(StoreCollector(snapshot, jobs)))


def exposition_of_server(scheduler: SchedulerCollector, *jobs: StoreCollector) -> bytes:
    """The numbers of a server in Prometheus's text format: the scheduler's and the process's, and those of the jobs."""
    from prometheus_client import ProcessCollector, generate_latest

    registry = registry_of(*jobs, scheduler)
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def registry_of(*collectors: StoreCollector | SchedulerCollector) -> Any:
    """A new prometheus_client registry, without the process-wide metrics."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        # Not derived from their class: that would import prometheus_client with this module.
        registry.register(collector)
    return registry


_Place = tuple[str | None, tuple[str, ...]]
"""A job (None: the series has none), and the values of an instrument's labels."""


def _place(instrument: Instrument, total: Total) -> _Place:
    return total.job, tuple(total.labels.get(name, "") for name in instrument.labels)


def _label_names(instrument: Instrument) -> list[str]:
    return [*instrument.labels, "deployment", "job_name"]


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return inf


def _printed(bound: float) -> str:
    from prometheus_client.utils import floatToGoString

    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


def _gauge_family(instrument: Instrument, deployment: str, values: Mapping[_Place, float]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    names = _label_names(instrument)
    labels = names[:-1] if any(job is None for job, _ in values) else names
    return _filled(GaugeMetricFamily(instrument.name, instrument.help, labels=labels), instrument, deployment, values)


def _filled(family: Any, instrument: Instrument, deployment: str, values: Mapping[_Place, float]) -> Any:
    for (job, labels), value in sorted(values.items(), key=lambda item: (item[0][0] or "", item[0][1])):
        family.add_metric([*labels, deployment] if job is None else [*labels, deployment, job], value / instrument.scale)
    return family


def build_info(deployment: str, job: str | None = None) -> Any:
    """The metric family that names the version of TaskPilot."""
    import platform

    return _gauge_family(instruments.BUILD_INFO, deployment, {(job, (version(), platform.python_version())): 1})
