"""What holds for every test: nothing of the developer's own configuration reaches it."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from random import Random

import pytest
from hypothesis import settings

from taskpilot.process.isolated import keep_helper
from taskpilot.store import database
from tests.templates import quick_engine, write_store

# To rewrite the assertions of three hundred files anew in each worker takes longer than most tests together.
sys.dont_write_bytecode = False

# A shared two-core machine makes single examples slow now and then; that is no finding.
settings.register_profile("deployment", deadline=None, print_blob=True)
settings.load_profile("deployment")

_KEPT = {"TASKPILOT_CI"}
_MAY_BE_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the files, and the tests in each, in the random order of this seed")


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = config.getoption("--shuffle")
    return None if seed is None else f"order: --shuffle {seed}"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays to the end: the garbage collector has nothing to look for in it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of one file stay together: they may share a server."""
    seed = config.getoption("--shuffle")
    if seed is not None:
        random = Random(seed)
        places = {item.path: random.random() for item in items}
        items.sort(key=lambda item: (places[item.path], random.random()))


@pytest.fixture(scope="session", autouse=True)
def _signals_are_not_ignored() -> Iterator[None]:
    """A program ignores what its parent ignores, as under `nohup` or in the background of a script; what its parent handles it does not."""
    before = {number: signal.getsignal(number) for number in _MAY_BE_IGNORED}
    ignored = [number for number in before if before[number] is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session", autouse=True)
def _one_helper_loads_job_files() -> Iterator[None]:
    """Its imports cost more than most tests."""
    keep_helper(on=True)
    yield
    keep_helper(on=False)


@pytest.fixture(autouse=True)
def _no_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("TASKPILOT_", "OPENAI_", "OTEL_")) and name not in _KEPT:
            monkeypatch.delenv(name)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    # A root has the jobs that its test writes.
    monkeypatch.setenv("TASKPILOT_HOUSEKEEPING", "off")


@pytest.fixture(autouse=True)
def _stores_are_copied(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is made in the test's own process is a copy of a migrated one, and does not wait for the disk: no power is cut here.

    Tests of the creation itself, and of what is written when, are `real_creation`.
    """
    if request.node.get_closest_marker("real_creation") is None:
        monkeypatch.setattr(database, "create", write_store)
        monkeypatch.setattr(database, "make_engine", quick_engine)
