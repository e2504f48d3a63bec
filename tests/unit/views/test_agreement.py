"""Every view says the same of a job: status, health, jobs, the page and the golden signals, for each state that a job can be in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.fires import SchedulerState
from taskpilot.domain.times import utc_now
from taskpilot.views.checks import Status
from taskpilot.views.golden_signals import Verdict, golden_signals
from taskpilot.views.health import health
from taskpilot.views.jobs import list_jobs
from taskpilot.views.status import status
from taskpilot.web import pages
from taskpilot.web.dependencies import Services
from tests.planted import STATES, Night

FINE = ("succeeded", "paused")
"""A person paused it: that is told, and needs nobody."""
ASKING = ("waiting",)
"""A question is open, and nothing has failed."""


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def deployment(tmp_path: Path, state: str) -> Iterator[Deployment]:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "taskpilot.toml").write_text("")
    job = f"from taskpilot import every, job\n\n\n@job(schedule=every('24h'))\ndef {state}(ctx) -> None:\n    pass\n"
    (tmp_path / "jobs" / "one.py").write_text(job)
    opened = Deployment(load(root=tmp_path, environ={}))
    night = Night(opened.store, utc_now())
    night.plant(state)
    night.server(asleep=False)
    yield opened
    opened.close()


def test_all_views_agree(deployment: Deployment, state: str) -> None:
    fine = state in FINE
    told = status(deployment)
    assert [one.kind.value for one in told.attention] == ([] if state == "succeeded" else [state])
    assert told.ok is fine

    found = health(deployment)
    assert found.status is (Status.PASS if fine else Status.WARN), found.findings
    assert [(one.job, one.kind.value) for one in found.jobs] == ([] if fine else [(state, state)])

    (line,) = list_jobs(deployment)
    assert (line.attention and line.attention.kind.value) == (None if fine else state)

    rate = golden_signals(deployment).success_rate
    if fine or state in ASKING:
        assert rate.verdict in (Verdict.HEALTHY, Verdict.NO_DATA)
    else:
        assert rate.verdict in (Verdict.DEGRADED, Verdict.UNHEALTHY)
        assert f"no success of {state}" in rate.detail

    services = Services(deployment, deployment.now, lambda: 0.0, lambda: SchedulerState.RUNNING, lambda: None, lambda: None)
    page = pages._history(services, "1")
    assert (f">{state}</strong>" in page) is not fine
    assert (f"{state} {state.replace('_', ' ')}" in page) is not fine, "the finding of health is on the page too"
