"""Every view says the same of a job: status, health, jobs, the page and the golden signals, for each state that a job can be in.

The alerts of the same states: tests/integration/stack/test_agreement_of_alerts.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskpilot.deployment import Deployment
from taskpilot.domain.fires import SchedulerState
from taskpilot.views.golden_signals import Verdict, golden_signals
from taskpilot.views.health import health
from taskpilot.views.jobs import list_jobs
from taskpilot.views.status import status
from taskpilot.web.dependencies import Services
from taskpilot.web.job_pages import overview
from taskpilot.web.templating import Shell
from tests.planted import AGREED, plant_agreed


@pytest.fixture(params=AGREED)
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def deployment(tmp_path: Path, state: str) -> Iterator[Deployment]:
    opened = plant_agreed(tmp_path / "root", state)
    yield opened
    opened.close()


def test_all_views_agree(deployment: Deployment, state: str) -> None:
    agreed = AGREED[state]
    told = status(deployment)
    assert [one.kind.value for one in told.attention] == list(agreed.told)
    assert told.ok is (agreed.health == "pass")

    found = health(deployment)
    assert found.status == agreed.health, found.findings
    assert [(one.job, one.kind.value) for one in found.jobs] == ([(state, agreed.needs)] if agreed.needs else [])

    (line,) = list_jobs(deployment)
    assert (line.attention.kind.value if line.attention else "") == agreed.needs

    rate = golden_signals(deployment).success_rate
    assert (rate.verdict in (Verdict.DEGRADED, Verdict.UNHEALTHY)) is agreed.fails
    assert (f"no success of {state}" in rate.detail) is agreed.fails

    services = Services(deployment, deployment.now, lambda: 0.0, lambda: SchedulerState.RUNNING, lambda: None, lambda: None)
    page = overview(Shell(), services, "1")
    tone = {"pass": "good", "warn": "mind", "fail": "bad"}[agreed.health]
    assert f'Status <span class="state {tone}">{agreed.health}</span>' in page
    for kind in agreed.told:
        assert f'>{kind.replace("_", " ")}</span> <a href="/jobs/{state}">' in page
    assert ("No job needs a person." in page) is (not agreed.told)
