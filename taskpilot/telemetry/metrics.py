"""The metrics, computed from the record by one collector: the same totals from a process of four seconds and from a server."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any, Final

from taskpilot.domain import instruments
from taskpilot.domain.instruments import COUNTERS, HISTOGRAMS, Instrument
from taskpilot.domain.times import to_micros
from taskpilot.domain.version import version
from taskpilot.store.database import Store
from taskpilot.store.metrics_queries import Total, pending_approvals, states_of, totals_of
from taskpilot.store.schedules import pauses_in_force
from taskpilot.telemetry.job_facts import LAST_STATUSES, JobFacts, known_label_sets

BUILD_INFO: Final = "taskpilot_build_info"

_STATE_GAUGES: Final = (
    (instruments.LAST_SCHEDULED, "last_scheduled"),
    (instruments.LAST_START, "last_start"),
    (instruments.LAST_COMPLETION, "last_completion"),
    (instruments.LAST_SUCCESS, "last_success"),
    (instruments.LAST_DURATION, "last_duration_micros"),
    (instruments.LAST_EXIT_CODE, "last_exit_code"),
    (instruments.LAST_COST, "last_cost_nano"),
    (instruments.LAST_BUDGET_USED, "last_budget_used_micros"),
)
_PER_RUN: Final = frozenset({instruments.LAST_COST.name, instruments.LAST_BUDGET_USED.name})
"""Gauges that one run has and the next may not have: an unpriced call, no ceiling."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The record's numbers at one moment, for one job or for all."""

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
    """A collector for a prometheus_client registry: asked for its numbers, it reads the record.

    `unknown_as_nan`: a value that a job had and now has no more is NaN instead of absent. A push needs that: the gateway keeps the
    last value of a metric that is not pushed any more.
    """

    def __init__(self, read: Callable[[], Snapshot], jobs: Iterable[JobFacts] = (), *, unknown_as_nan: bool = False) -> None:
        self._read = read
        self._jobs = {facts.name: facts for facts in jobs}
        self._unknown_as_nan = unknown_as_nan

    def collect(self) -> Iterator[Any]:
        """Every counter, histogram and gauge that has data, and zeros for the label sets that are known."""
        snapshot = self._read()
        wanted = self._jobs.values() if snapshot.job is None else [self._jobs.get(snapshot.job, JobFacts(snapshot.job, configured=False))]
        facts = {one.name: one for one in wanted}
        jobs = tuple(sorted(set(snapshot.jobs) | set(facts)))
        yield from self._counters(snapshot, jobs, facts)
        yield from self._histograms(snapshot, jobs, facts)
        yield from self._gauges(snapshot, jobs, facts)

    def _counters(self, snapshot: Snapshot, jobs: Sequence[str], facts: Mapping[str, JobFacts]) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily

        by_metric = _grouped(snapshot.totals)
        for instrument in COUNTERS:
            values = _zeros(instrument, jobs, facts, 0)
            for total in by_metric.get(instrument.name, ()):
                place = (total.job, _label_values(instrument, total.labels))
                values[place] = values.get(place, 0) + total.value
            family = CounterMetricFamily(instrument.name, instrument.help, labels=_label_names(instrument))
            for (job, labels), value in sorted(values.items()):
                family.add_metric([*labels, snapshot.deployment, job], value / instrument.scale)
            if values:
                yield family

    def _histograms(self, snapshot: Snapshot, jobs: Sequence[str], facts: Mapping[str, JobFacts]) -> Iterator[Any]:
        from prometheus_client.core import HistogramMetricFamily

        by_metric = _grouped(snapshot.totals)
        for instrument in HISTOGRAMS:
            values = {place: _Histogram() for place in _zeros(instrument, jobs, facts, 0)}
            for total in by_metric.get(f"{instrument.name}_bucket", ()):
                one = values.setdefault((total.job, _label_values(instrument, total.labels)), _Histogram())
                bound = _bound(total.labels.get("le", ""))
                one.buckets[bound] = one.buckets.get(bound, 0) + total.value
            for total in by_metric.get(f"{instrument.name}_sum", ()):
                values.setdefault((total.job, _label_values(instrument, total.labels)), _Histogram()).total += total.value
            family = HistogramMetricFamily(instrument.name, instrument.help, labels=_label_names(instrument))
            for (job, labels), one in sorted(values.items(), key=lambda item: item[0]):
                family.add_metric([*labels, snapshot.deployment, job], one.cumulative(instrument.buckets), one.total / instrument.scale)
            if values:
                yield family

    def _gauges(self, snapshot: Snapshot, jobs: Sequence[str], facts: Mapping[str, JobFacts]) -> Iterator[Any]:
        for instrument, column in _STATE_GAUGES:
            yield from _gauge(instrument, snapshot, {(job, ()): self._last(snapshot, job, instrument, column) for job in jobs})
        states = snapshot.states
        yield from _gauge(
            instruments.LAST_STATUS,
            snapshot,
            {
                (job, (status,)): float(state.last_status == status)
                for job, state in states.items()
                if state.last_status
                for status in dict.fromkeys((*LAST_STATUSES, state.last_status))
            },
        )
        kinds = {"input": "last_input_tokens", "cached_input": "last_cached_input_tokens", "output": "last_output_tokens"}
        tokens = {(job, (kind,)): getattr(state, column) for job, state in states.items() for kind, column in kinds.items()}
        yield from _gauge(instruments.LAST_TOKENS, snapshot, tokens)
        known = {job: one for job, one in facts.items() if one.configured}
        yield from _gauge(instruments.DEADLINE, snapshot, {(job, ()): one.deadline_micros for job, one in known.items()})
        gone = nan if self._unknown_as_nan else None
        gaps = {(job, ()): gone if one.max_success_gap_micros is None else one.max_success_gap_micros for job, one in known.items()}
        yield from _gauge(instruments.MAX_SUCCESS_GAP, snapshot, gaps)
        fires = {(job, ()): gone if one.next_fire is None else to_micros(one.next_fire) for job, one in known.items()}
        yield from _gauge(instruments.NEXT_FIRE, snapshot, fires)
        yield from _gauge(instruments.PAUSED, snapshot, {(job, ()): float(job in snapshot.paused) for job in jobs})
        yield from _gauge(instruments.APPROVALS_PENDING, snapshot, {(job, ()): snapshot.approvals.get(job, 0) for job in jobs})
        yield from _gauge(instruments.STORE_INFO, snapshot, {(job, (snapshot.store_id,)): 1 for job in jobs})
        yield build_info(snapshot.deployment, snapshot.job)

    def _last(self, snapshot: Snapshot, job: str, instrument: Instrument, column: str) -> float | None:
        state = snapshot.states.get(job)
        if state is None:
            return None
        value = getattr(state, column)
        if value is not None:
            return float(value)
        return nan if self._unknown_as_nan and instrument.name in _PER_RUN and state.last_completion is not None else None


def exposition(snapshot: Snapshot, jobs: Iterable[JobFacts] = ()) -> bytes:
    """The snapshot in Prometheus's text format."""
    from prometheus_client import generate_latest

    return generate_latest(registry_of(lambda: snapshot, jobs))


def registry_of(read: Callable[[], Snapshot], jobs: Iterable[JobFacts] = (), *, unknown_as_nan: bool = False) -> Any:
    """A private prometheus_client registry with one collector; nothing of the process-wide one."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    # The collector has the one method that is asked of it; deriving it from their class would wake prometheus_client at import.
    registry.register(StoreCollector(read, jobs, unknown_as_nan=unknown_as_nan))
    return registry


_Values = dict[tuple[str, tuple[str, ...]], int]


def _zeros(instrument: Instrument, jobs: Sequence[str], facts: Mapping[str, JobFacts], zero: int) -> _Values:
    return {(job, labels): zero for job in jobs for labels in known_label_sets(instrument, facts.get(job))}


def _grouped(totals: Iterable[Total]) -> dict[str, list[Total]]:
    groups: dict[str, list[Total]] = {}
    for total in totals:
        groups.setdefault(total.metric, []).append(total)
    return groups


def _label_names(instrument: Instrument) -> list[str]:
    return [*instrument.labels, "deployment", "job_name"]


def _label_values(instrument: Instrument, labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels.get(name, "") for name in instrument.labels)


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return inf


def _printed(bound: float) -> str:
    from prometheus_client.utils import floatToGoString

    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


def _gauge(instrument: Instrument, snapshot: Snapshot, values: Mapping[Any, float | None]) -> Iterator[Any]:
    from prometheus_client.core import GaugeMetricFamily

    present = {place: value for place, value in values.items() if value is not None}
    if present:
        family = GaugeMetricFamily(instrument.name, instrument.help, labels=_label_names(instrument))
        for (job, labels), value in sorted(present.items(), key=lambda item: item[0]):
            family.add_metric([*labels, snapshot.deployment, job], value / instrument.scale)
        yield family


def build_info(deployment: str, job: str | None = None) -> Any:
    """The family that says which version wrote a group, or answers a scrape."""
    import platform

    from prometheus_client.core import GaugeMetricFamily

    names, values = ["version", "python", "deployment"], [version(), platform.python_version(), deployment]
    if job is not None:
        names, values = [*names, "job_name"], [*values, job]
    family = GaugeMetricFamily(BUILD_INFO, "Which TaskPilot wrote this?", labels=names)
    family.add_metric(values, 1)
    return family
