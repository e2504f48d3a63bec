"""A person's word on a result: the newest one holds, every new one is counted, and nothing is counted twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskpilot.domain.errors import NotFound, TransitionRefused, UsageError
from taskpilot.domain.runs import Feedback, FeedbackVerdict, RunStatus
from taskpilot.messages.actions import rated
from taskpilot.services.approvals import give_feedback
from taskpilot.services.metrics import show_metrics
from taskpilot.views.runs import detail_json, show_run
from tests.records import add_run
from tests.spine import Spine

NOBODY = "01936b2e-0000-7000-8000-000000000000"
CORRECT, WRONG = FeedbackVerdict


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    (tmp_path / "jobs").mkdir()
    opened = Spine(tmp_path)
    yield opened
    opened.close()


def counted(spine: Spine) -> tuple[int, int]:
    """How often people said correct, and wrong."""
    found = {CORRECT: 0, WRONG: 0}
    for line in show_metrics(spine.deployment).splitlines():
        for verdict in FeedbackVerdict:
            if line.startswith("taskpilot_feedback_total{") and f'verdict="{verdict}"' in line:
                found[verdict] += int(float(line.rsplit(" ", 1)[1]))
    return found[CORRECT], found[WRONG]


def pending(spine: Spine) -> int:
    with spine.store.read() as connection:
        return int(connection.exec_driver_sql("SELECT coalesce(sum(version), 0) FROM job_state").scalar() or 0)


def test_a_word_is_kept_with_who_when_and_why(spine: Spine) -> None:
    run_id = add_run(spine.store)
    assert show_run(spine.deployment, run_id).feedback is None
    assert detail_json(show_run(spine.deployment, run_id))["feedback"] is None
    given = give_feedback(spine.deployment, run_id, WRONG, by="ada", note="no such account")
    assert rated(given) == f"ada rated run {run_id} of triage wrong"
    found = show_run(spine.deployment, run_id)
    assert found.feedback == Feedback(run_id, WRONG, "ada", spine.clock(), "no such account")
    assert detail_json(found)["feedback"] == {
        "verdict": "wrong",
        "by": "ada",
        "at": spine.clock().isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "note": "no such account",
    }


def test_a_change_of_mind_is_counted_as_the_new_word_too_and_the_same_word_again_is_not(spine: Spine) -> None:
    first, second = add_run(spine.store), add_run(spine.store)
    give_feedback(spine.deployment, first, CORRECT, by="ada", note="")
    give_feedback(spine.deployment, second, CORRECT, by="ada", note="")
    assert counted(spine) == (2, 0)
    version = pending(spine)
    give_feedback(spine.deployment, first, CORRECT, by="bo", note="looked again")
    assert (counted(spine), pending(spine)) == ((2, 0), version)
    given = give_feedback(spine.deployment, first, WRONG, by="cy", note="")
    assert rated(given) == f"cy rated run {first} of triage wrong (bo had rated it correct)"
    assert counted(spine) == (2, 1), "counters never go back"
    assert pending(spine) == version + 1
    found = show_run(spine.deployment, first).feedback
    assert found is not None
    assert (found.verdict, found.given_by, found.note) == (WRONG, "cy", "")


@pytest.mark.parametrize("status", sorted(set(RunStatus) - {RunStatus.SUCCEEDED}))
def test_only_the_result_of_a_run_that_succeeded_is_rated(spine: Spine, status: RunStatus) -> None:
    run_id = add_run(spine.store, status=status, ended_at=None)
    with pytest.raises(TransitionRefused, match=f"is {status}: only the result of a run that succeeded"):
        give_feedback(spine.deployment, run_id, CORRECT, by="ada", note="")
    assert (show_run(spine.deployment, run_id).feedback, counted(spine)) == (None, (0, 0))


def test_an_id_that_no_run_has_is_told_apart_from_one_that_is_none(spine: Spine) -> None:
    with pytest.raises(NotFound, match="there is no run"):
        give_feedback(spine.deployment, NOBODY, CORRECT, by="ada", note="")
    with pytest.raises(UsageError, match="not a run id"):
        give_feedback(spine.deployment, "1", CORRECT, by="ada", note="")


def test_halves_of_characters_in_a_note_are_no_reason_to_fail(spine: Spine) -> None:
    run_id = add_run(spine.store)
    give_feedback(spine.deployment, run_id, CORRECT, by="a\udcffda", note="caf\udce9")
    found = show_run(spine.deployment, run_id).feedback
    assert found is not None
    assert found.verdict is CORRECT
