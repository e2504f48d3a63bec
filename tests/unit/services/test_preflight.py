"""The check of every job at the start of the server: what could not start, and why, before its first fire fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.reasons import ReasonCode
from taskpilot.services.jobs import read_definitions
from taskpilot.services.preflight import check_jobs
from taskpilot.store.job_checks import job_checks_of

JOBS = """
from taskpilot import Budget, cron, job

EACH = cron("0 7 * * *")


@job(schedule=EACH, deadline="5m", catch_up_window="1h")
def fine(ctx) -> None: ...


@job(schedule=EACH, model="gpt-4o")
def asks(ctx) -> None: ...


@job(schedule=EACH)
def needs(ctx, inbox: str) -> None: ...


@job
def by_hand(ctx, inbox: str) -> None: ...


@job(schedule=EACH, budget=Budget(usd="1"), model="offline")
def priced(ctx) -> None: ...
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "taskpilot.toml").write_text("")
    (tmp_path / "jobs" / "all.py").write_text(JOBS)
    opened = Deployment(load(root=tmp_path, environ={}))
    yield opened
    opened.close()


def test_a_job_that_could_not_start_is_found_with_what_helps_and_stored(deployment: Deployment) -> None:
    found = {check.job: check for check in check_jobs(deployment, read_definitions(deployment))}
    assert {job for job, check in found.items() if check.reason} == {"asks", "needs"}
    assert found["asks"].reason.code is ReasonCode.CONFIGURATION
    assert "OPENAI_API_KEY" in str(found["asks"].reason.facts["hint"])
    assert "needs the parameter 'inbox'" in str(found["needs"].reason.facts["error"])
    with deployment.store.read() as connection:
        assert job_checks_of(connection) == found
    assert (found["fine"].deadline, found["fine"].catch_up_window) == (
        deployment.catalog.jobs["fine"].deadline,
        deployment.catalog.jobs["fine"].catch_up_window,
    )


def test_a_key_that_comes_later_clears_it_and_a_removed_job_is_forgotten(deployment: Deployment, tmp_path: Path) -> None:
    check_jobs(deployment, read_definitions(deployment))
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-1\n")
    (tmp_path / ".env").chmod(0o600)
    deployment.settings = load(root=tmp_path, environ={})
    (tmp_path / "jobs" / "all.py").write_text(JOBS.partition("@job(schedule=EACH)\ndef needs")[0])
    found = check_jobs(deployment, read_definitions(deployment, deployment.reread_jobs()))
    assert [(check.job, bool(check.reason)) for check in found] == [("asks", False), ("fine", False)]


def test_a_policy_that_does_not_compile_stops_every_job(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "own.rego").write_text("package taskpilot.tools\nallow if {")
    (tmp_path / "taskpilot.toml").write_text('[policy]\nfiles = ["own.rego"]\n')
    deployment.settings = load(root=tmp_path, environ={})
    found = check_jobs(deployment, read_definitions(deployment))
    assert all(check.reason.code is ReasonCode.CONFIGURATION for check in found)
    assert all("own.rego" in str(check.reason.facts["error"]) for check in found)
