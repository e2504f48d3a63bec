"""Servers for tests: one that anybody on this machine may read, and one with a token."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.web.serving import TOKEN, Served, make_root, serving


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Without a token in the settings: the server has one of its own."""
    with serving(make_root(tmp_path)) as server:
        yield server


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Served]:
    """With a token: writing too."""
    with serving(make_root(tmp_path), token=TOKEN) as server:
        yield server
