"""What telling costs: a push after ten runs and after a thousand, and a run whose gateway and collector are no help."""

from collections.abc import Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from tempfile import TemporaryDirectory

from taskpilot.signals.gateway import push_job
from taskpilot.signals.job_facts import JobFacts
from taskpilot.store.database import Store
from tests.bench.figures import Figure, in_turn, most_figure, ratio_figure, server
from tests.bench.place import Place, place
from tests.servers.ports import free_port
from tests.servers.recorded import finished_run

_FEW, _MANY = 10, 1000


def bench(rounds: int) -> Iterator[Figure]:
    """Pushes, and telemetry that is dead or hangs."""
    with server("tests.bench.answering") as alive, server("tests.bench.answering", "--hang") as hanging:
        yield _push(rounds, alive)
        with place() as here:
            yield _no_help(here, rounds, "nobody there", f"http://127.0.0.1:{free_port()}", alive)
            yield _no_help(here, rounds, "hanging", hanging, alive)


def _push(rounds: int, url: str) -> Figure:
    """The CPU of a push of the same job from a store with few runs and from one with many."""
    with TemporaryDirectory(prefix="taskpilot-bench-") as folder:
        stores = [_filled(Path(folder) / str(number), number) for number in (_FEW, _MANY)]
        try:
            few, many = ((lambda store=store: _pushed(store, url)) for store in stores)
            pairs = in_turn(rounds * 4, few, many)
        finally:
            for store in stores:
                store.close()
    value = f"{median(late for _, late in pairs) * 1000:.1f} ms CPU"
    return ratio_figure(f"push at run {_MANY:,}", value, [late / early for early, late in pairs], f"the push at run {_FEW}", at_most=1.2)


def _filled(state_dir: Path, runs: int) -> Store:
    store = Store.open(state_dir, "bench")
    for _ in range(runs):
        finished_run(store, "nothing")
    return store


def _pushed(store: Store, url: str) -> float:
    began = _cpu()
    result = push_job(store, JobFacts("nothing"), url, store.path.parent, seconds_left=10.0)
    assert result.delivered, result.error
    return _cpu() - began


def _cpu() -> float:
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _no_help(here: Place, rounds: int, how: str, url: str, alive: str) -> Figure:
    """How much longer a run takes than one whose gateway and collector answer at once: the wait, since both import the same."""

    def run(at: str) -> float:
        told = {"TASKPILOT_PUSHGATEWAY_URL": at, "OTEL_EXPORTER_OTLP_ENDPOINT": at, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        spent = here.taskpilot("run", "nothing", **told)
        assert spent.code == 0
        return spent.wall_seconds

    pairs = in_turn(rounds, lambda: run(url), lambda: run(alive))
    longer = [bad - good for bad, good in pairs]
    return most_figure(f"a run, telemetry {how}", longer, "more than with telemetry that answers", at_most_ms=500)
