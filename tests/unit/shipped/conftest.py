"""A repository, and the shipped job that digests it."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.specs import JobSpec
from taskpilot.llm.offline import OfflineModel
from taskpilot.testing import JobResult, ManualClock, run_job
from tests.loading import job_with_functions
from tests.repositories import MORNING, Repository


@pytest.fixture
def digest() -> JobSpec:
    return job_with_functions(Path(__file__).parents[3] / "jobs", "repo_digest")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "engine")


@pytest.fixture
def run(digest: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobResult]:
    """Runs the job again and again over one store, a day apart; `offline` answers where no model is given."""
    # Nobody's own settings of git.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    clock = ManualClock(MORNING)
    (tmp_path / "root").mkdir()

    def ran(where: Repository | Path, *, model: Any = None, **parameters: Any) -> JobResult:
        clock.advance(timedelta(days=1))
        folder = where.folder if isinstance(where, Repository) else where
        given = {"repository": str(folder), **parameters}
        return run_job(digest.function, model=model or OfflineModel(), parameters=given, now=clock, root=tmp_path / "root")

    return ran
