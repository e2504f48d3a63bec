"""The supervisor's part of a run, where no process is started: what goes wrong before, and between two attempts."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskpilot import Retry, RunContext, job
from taskpilot.domain.errors import StoreBusy
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, Run, RunStatus
from taskpilot.ledger.ledger import Ledger
from taskpilot.process import Interrupts
from taskpilot.services.attempts import Attempts
from tests.spine import Spine


@job(name="plain", retry=Retry(attempts=2))
def plain(ctx: RunContext) -> None:
    """Do nothing."""


class Blank:
    def update(self, run: Run) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Holds nothing."""


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    opened = Spine(tmp_path)
    yield opened
    opened.close()


def attempts_of(spine: Spine, job: Callable[..., Any] = plain) -> Attempts:
    def never(*_: Any) -> int:
        raise AssertionError("no process is started in these tests")

    return Attempts(spine.deployment, spine.plan(job).spec, never, Blank(), lambda: None)


def test_a_process_that_cannot_be_started_ends_the_run_at_once_and_leaves_no_lease(spine: Spine) -> None:
    claim = spine.claim(plain)
    (spine.deployment.make_run_dir(claim.run.id) / "output.log").mkdir()
    with Interrupts() as interrupts, pytest.raises(OSError, match=r"output\.log"):
        attempts_of(spine).run(claim, interrupts)
    run = spine.run_of(claim.run.id)
    assert (run.status, run.reason.code) == (RunStatus.FAILED, ReasonCode.NOT_STARTED)
    assert "output.log" in str(run.reason.facts["error"])
    assert spine.row(run.id).lease_token is None


def test_a_store_that_is_busy_for_a_moment_between_two_attempts_costs_no_attempt(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = spine.claim(plain)
    spine.ledger.end(claim.grant, Outcome(RunStatus.FAILED, Reason(ReasonCode.EXCEPTION), retry=True), active_seconds=1, keep_lease=True)
    asked = []

    def busy(*_args: Any, **_keywords: Any) -> bool:
        asked.append(1)
        raise StoreBusy

    monkeypatch.setattr(Ledger, "renew", busy)
    with Interrupts() as interrupts:
        assert attempts_of(spine)._pause(claim.grant, interrupts)
    assert asked


@pytest.mark.parametrize(("reason", "delay", "least"), [(ReasonCode.EXCEPTION, "400ms", 0.4), (ReasonCode.SIGNAL, "2m", 0.0)])
def test_the_delay_of_the_job_is_kept_after_a_failure_and_is_no_active_time(
    spine: Spine, reason: ReasonCode, delay: str, least: float
) -> None:
    @job(name="slow", retry=Retry(attempts=2, delay=delay))
    def slow(ctx: RunContext) -> None:
        """Do nothing."""

    claim = spine.claim(slow)
    spine.ledger.end(claim.grant, Outcome(RunStatus.FAILED, Reason(reason), retry=True), active_seconds=1, keep_lease=True)
    began = time.monotonic()
    with Interrupts() as interrupts:
        assert attempts_of(spine, slow)._pause(claim.grant, interrupts)
    assert least <= time.monotonic() - began < 60
    assert spine.run_of(claim.run.id).active_micros == 1_000_000


def test_a_cancel_between_two_attempts_ends_the_run(spine: Spine) -> None:
    claim = spine.claim(plain)
    spine.ledger.end(claim.grant, Outcome(RunStatus.FAILED, Reason(ReasonCode.EXCEPTION), retry=True), active_seconds=1, keep_lease=True)
    spine.ledger.cancel(claim.run.id)
    with Interrupts() as interrupts:
        assert not attempts_of(spine)._pause(claim.grant, interrupts)
    assert (spine.run_of(claim.run.id).status, spine.run_of(claim.run.id).reason.code) == (
        RunStatus.CANCELLED,
        ReasonCode.CANCELLED_BY_PERSON,
    )
