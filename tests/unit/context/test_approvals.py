"""Calls that need a person's yes: parked, asked once, made for exactly those arguments."""

from taskpilot import RunContext, job
from taskpilot.domain.decisions import DecisionStatus
from taskpilot.domain.runs import RunStatus
from taskpilot.services.approvals import approve_decision, reject_decision
from tests.spine import Spine

SENSITIVE = {"title": "a sensitive thing", "priority": "high"}


def _files(ctx: RunContext) -> str:
    return str(ctx.call("create_task", **SENSITIVE))


def test_a_call_that_needs_approval_parks_the_run_until_a_person_says_yes(spine: Spine) -> None:
    files = job(name="files")(_files)
    first = spine.run(files)
    assert (first.run.status, spine.tasks(first.run.id)) == (RunStatus.WAITING, [])
    (decision,) = spine.decisions(first.run.id)
    assert (decision.status, decision.arguments["title"]) == (DecisionStatus.PENDING, SENSITIVE["title"])
    assert first.run.reason == decision.question

    assert approve_decision(spine.deployment, decision.id, by="ada", note="checked").item.run_id == first.run.id
    second = spine.resume(files, first.run.id)
    assert second.run.status is RunStatus.SUCCEEDED
    assert [task.title for task in spine.tasks(first.run.id)] == [SENSITIVE["title"]]
    assert [one.status for one in spine.decisions(first.run.id)] == [DecisionStatus.APPROVED]


def test_resuming_before_the_answer_asks_the_same_question_again_and_not_a_second_one(spine: Spine) -> None:
    files = job(name="files")(_files)
    first = spine.run(files)
    second = spine.resume(files, first.run.id)
    assert second.run.status is RunStatus.WAITING
    assert len(spine.decisions(first.run.id)) == 1


def test_a_no_is_a_denial(spine: Spine) -> None:
    files = job(name="files")(_files)
    first = spine.run(files)
    (decision,) = spine.decisions(first.run.id)
    reject_decision(spine.deployment, decision.id, by="ada", note="never")
    second = spine.resume(files, first.run.id)
    assert second.run.status is RunStatus.DENIED
    assert (second.run.reason.facts["by"], second.run.reason.facts["note"]) == ("ada", "never")
    assert spine.tasks(first.run.id) == []


def test_an_approval_holds_for_exactly_those_arguments(spine: Spine) -> None:
    texts = iter(["one sensitive thing", "another sensitive thing"])

    @job()
    def files(ctx: RunContext) -> None:
        ctx.call("create_task", title=next(texts), priority="high")

    first = spine.run(files)
    (decision,) = spine.decisions(first.run.id)
    approve_decision(spine.deployment, decision.id, by="ada", note="")
    second = spine.resume(files, first.run.id)
    assert second.run.status is RunStatus.WAITING
    assert spine.tasks(first.run.id) == []
    assert len(spine.decisions(first.run.id)) == 2


def test_a_swallowed_wait_parks_the_run_all_the_same(spine: Spine) -> None:
    @job()
    def swallows(ctx: RunContext) -> str:
        try:
            return _files(ctx)
        except BaseException:
            return "never mind"

    ran = spine.run(swallows)
    assert (ran.run.status, ran.run.result) == (RunStatus.WAITING, None)
