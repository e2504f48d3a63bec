"""What changes the record is published after its commit, by nobody's remembering it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskpilot import RunContext, every, job
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.services import publishing
from taskpilot.services.jobs import pause_job
from taskpilot.services.publishing import publish_changes, publish_on_change
from taskpilot.services.running import cancel_run
from taskpilot.store.totals import Change
from tests.spine import Spine


@job(schedule=every("1h"))
def hourly(ctx: RunContext) -> None:
    """Do nothing."""


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    opened = Spine(tmp_path)
    yield opened
    opened.close()


def test_a_pause_is_in_the_metrics_file_at_once(spine: Spine) -> None:
    publish_on_change(spine.deployment)
    spine.due(hourly)
    file = spine.deployment.settings.state_dir / "metrics.json"
    assert not file.exists()
    pause_job(spine.deployment, "hourly", by="anna", note="")
    assert "hourly" in file.read_text()


def test_the_spans_of_a_run_that_a_person_cancels_are_written_at_once(spine: Spine) -> None:
    publish_on_change(spine.deployment)
    claim = spine.claim(hourly)
    spine.ledger.end(claim.grant, Outcome(RunStatus.WAITING, Reason(ReasonCode.APPROVAL)), active_seconds=1, keep_lease=False)
    cancel_run(spine.deployment, claim.run.id)
    traces = (spine.deployment.settings.state_dir / "traces.jsonl").read_text()
    assert claim.run.trace_id in traces


def test_many_changes_share_half_a_second(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, str | None, float]] = []
    monkeypatch.setattr(publishing, "publish_change", lambda _deployment, job, *, run_id, seconds: given.append((job, run_id, seconds)))
    publish_changes(spine.deployment, frozenset({Change("a"), Change("b"), Change("c", "run")}))
    assert [(job, run_id) for job, run_id, _ in given] == [("c", "run"), ("a", None), ("b", None)]
    assert all(0 < seconds <= 0.5 for *_, seconds in given)
