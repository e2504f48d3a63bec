"""One root with its store, for the tests of this package."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.spine import Spine


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    opened = Spine(tmp_path)
    yield opened
    opened.close()
