"""A store and a state dir for tests of signals."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskpilot.store.database import Store
from tests.servers.recorded import close_opened, opened


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state dir."""
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    """An empty store."""
    store = opened(home)
    yield store
    store.close()


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Takes back what configure_logs did to this process."""
    from loguru import logger

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logger.remove()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _stores_are_closed() -> Iterator[None]:
    yield
    close_opened()
