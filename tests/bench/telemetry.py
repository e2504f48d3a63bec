"""What telling costs: a push after ten runs and after a thousand, and a run whose gateway and collector are no help."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from tempfile import TemporaryDirectory

from taskpilot.domain.ids import new_id
from taskpilot.store.database import Store
from taskpilot.telemetry.gateway import Gateway
from taskpilot.telemetry.metrics import JobFacts
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
            nobody, off = f"http://127.0.0.1:{free_port()}", {"OTEL_ENABLED": "false"}
            yield _longer(here, rounds, "telemetry dead", _sent_to(nobody), off, "more than with none configured")
            # Both import the same exporter: what is left is the wait.
            yield _longer(here, rounds, "telemetry hanging", _sent_to(hanging), _sent_to(alive), "more than with one that answers")


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
    """A store with that many runs of one job; all but the first are copies, put in at once."""
    store = Store.open(state_dir, "bench")
    first = finished_run(store, "nothing")
    with closing(sqlite3.connect(store.path)) as raw, raw:
        names = ", ".join(f'"{row[1]}"' for row in raw.execute("PRAGMA table_info(runs)") if row[1] != "id")
        copy = f"INSERT INTO runs (id, {names}) SELECT ?, {names} FROM runs WHERE id = ?"
        raw.executemany(copy, [(new_id(), first) for _ in range(runs - 1)])
    return store


def _pushed(store: Store, url: str) -> float:
    began = _cpu()
    result = Gateway(store, url, store.path.parent).push(JobFacts("nothing"), seconds=10.0)
    assert result.delivered, result.error
    return _cpu() - began


def _cpu() -> float:
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _sent_to(url: str) -> dict[str, str]:
    """The settings of a run that tells a gateway and a collector."""
    return {"TASKPILOT_PUSHGATEWAY_URL": url, "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


def _longer(here: Place, rounds: int, name: str, bad: Mapping[str, str], good: Mapping[str, str], peer: str) -> Figure:
    """How much longer, by the clock on the wall, a run takes with one telemetry than with another."""

    def run(telemetry: Mapping[str, str]) -> float:
        spent = here.taskpilot("run", "nothing", **telemetry)
        assert spent.code == 0
        return spent.wall_seconds

    pairs = in_turn(rounds, lambda: run(bad), lambda: run(good))
    return most_figure(name, [one - other for one, other in pairs], peer, at_most_ms=500)
