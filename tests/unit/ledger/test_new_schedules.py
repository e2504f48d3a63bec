"""A job whose file is loaded a moment after it was written is due from the time of its file."""

from datetime import timedelta

from taskpilot import RunContext, at, job
from taskpilot.domain.fires import FireOutcome
from tests.spine import NOON, Spine


@job(schedule=at("2026-11-23T12:00:02+00:00"))
def soon(ctx: RunContext) -> None:
    """Due two seconds after its file was written."""


def test_a_fire_between_the_writing_and_the_loading_of_its_file_is_met(spine: Spine) -> None:
    spine.clock.advance(timedelta(seconds=5))
    spine.defined(soon, changed_at=NOON)
    assert spine.due(soon).outcomes == {FireOutcome.BUFFERED: 1}


def test_one_before_its_file_was_written_is_none(spine: Spine) -> None:
    spine.clock.advance(timedelta(seconds=5))
    spine.defined(soon, changed_at=NOON + timedelta(seconds=4))
    assert spine.fire("soon", NOON + timedelta(seconds=2)) is None
    assert spine.due(soon).outcomes == {}
