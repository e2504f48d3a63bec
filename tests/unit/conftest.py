"""A deployment over a root and a store of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskpilot.config import load
from taskpilot.deployment import Deployment
from tests.timeline import Timeline


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "jobs").mkdir(parents=True)
    (folder / "taskpilot.toml").write_text('jobs = "jobs"\n')
    return folder


@pytest.fixture
def deployment(root: Path) -> Iterator[Deployment]:
    opened = Deployment(load(root=root))
    yield opened
    opened.close()


@pytest.fixture
def timeline(tmp_path: Path) -> Iterator[Timeline]:
    opened = Timeline(tmp_path / "root")
    yield opened
    opened.close()
