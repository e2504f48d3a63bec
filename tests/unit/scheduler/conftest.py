"""Schedulers over stores of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.keeper import Keeper, make_root

Keep = Callable[..., Keeper]
"""Makes a root with the named jobs and a scheduler over it that has had its first ticks."""


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Keep]:
    kept: list[Keeper] = []

    def make(*, settings: str = "", start: bool = True, keeper: dict[str, Any] | None = None, **jobs: str) -> Keeper:
        root = tmp_path / f"root{len(kept)}"
        made = Keeper(make_root(root, settings=settings, **jobs), **(keeper or {}))
        kept.append(made)
        if start:
            made.start()
        return made

    yield make
    for one in kept:
        one.close()
