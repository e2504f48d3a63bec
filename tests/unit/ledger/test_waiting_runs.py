"""A run that waits for a person holds back the fires of its job, and nothing else."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.exits import ExitCode
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import Outcome, RunStatus
from taskpilot.jobs.decorator import job
from taskpilot.ledger.claims import Skip
from taskpilot.schedules.schedule import every
from taskpilot.views.status import status
from tests.spine import NOON, Spine

MINUTE = timedelta(minutes=1)
ASKED = Reason(ReasonCode.APPROVAL, {"tool": "send_mail"})


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    made = Spine(tmp_path)
    yield made
    made.close()


def waits(spine: Spine, function: Any) -> str:
    """A run of the job that waits for a person."""
    claim = spine.claim(function)
    spine.ledger.end(claim.grant, Outcome(RunStatus.WAITING, ASKED), active_seconds=1, keep_lease=False)
    return claim.run.id


def test_its_fires_are_skipped_until_it_is_answered_and_status_has_one_line(spine: Spine) -> None:
    @job(schedule=every("1m"))
    def asks(ctx: Any) -> None: ...

    spine.due(asks)
    run_id = waits(spine, asks)
    for _ in range(3):
        spine.later(60)
        spine.due(asks)
    assert set(spine.outcomes("asks").values()) == {"skipped_overlap"}
    fire = spine.fire("asks", NOON + MINUTE)
    assert fire is not None
    assert fire.reason == Reason(ReasonCode.RUN_WAITING, {"run_id": run_id})
    (line,) = status(spine.deployment, since=NOON - MINUTE).attention
    assert (line.kind, line.job, line.skipped) == ("waiting", "asks", 3)
    assert spine.ledger.requeue_waiting(run_id)
    spine.later(60)
    spine.due(asks)
    assert spine.outcomes("asks")[NOON + 4 * MINUTE] == "buffered"


def test_a_command_for_a_fire_is_skipped_with_10_and_one_by_hand_is_not_held_back(spine: Spine) -> None:
    @job(schedule=every("1m"))
    def asks(ctx: Any) -> None: ...

    spine.due(asks)
    waits(spine, asks)
    refused = spine.refused(asks, scheduled_for=NOON)
    assert isinstance(refused, Skip)
    assert (refused.exit_code, refused.reason.code) == (ExitCode.SKIPPED_OVERLAP, ReasonCode.RUN_WAITING)
    assert spine.claim(asks).run.status is RunStatus.RUNNING


@pytest.mark.parametrize("options", [{"overlap": "allow_all"}, {"overlap_waiting": "ignore"}])
def test_a_job_may_go_on_meanwhile(spine: Spine, options: dict[str, Any]) -> None:
    @job(schedule=every("1m"), **options)
    def asks(ctx: Any) -> None: ...

    spine.due(asks)
    waits(spine, asks)
    spine.later(60)
    spine.due(asks)
    assert list(spine.outcomes("asks").values()) == ["buffered"]
    assert spine.claim(asks, scheduled_for=NOON).run.status is RunStatus.RUNNING
