"""What a run remembers, and which later runs recall it."""

from collections.abc import Callable
from typing import Any

import pytest

from taskpilot import Retry, RunContext, job
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind
from taskpilot.store import steps
from tests.spine import Killed, Spine

Job = Callable[..., Any]


@job()
def counter(ctx: RunContext, key: str = "count", fail: bool = False) -> Any:
    before = ctx.recall(key)
    ctx.remember(key, (before or 0) + 1)
    if fail:
        raise RuntimeError("after it was remembered")
    return before


def results(spine: Spine, *parameters: dict[str, Any], task: Job = counter) -> list[Any]:
    return [spine.run(task, parameters=each).run.result for each in parameters]


def test_a_run_recalls_what_the_success_before_it_remembered(spine: Spine) -> None:
    assert results(spine, {}, {}, {}) == [None, 1, 2]


def test_what_a_failed_run_remembered_counts_for_nothing(spine: Spine) -> None:
    assert results(spine, {}, {"fail": True}, {}) == [None, None, 1]


def test_keys_are_told_apart_however_many_runs_lie_between(spine: Spine) -> None:
    assert results(spine, {"key": "a"}, {"key": "b"}, {"key": "b"}, {"key": "a"}) == [None, None, 1, 1]


def test_another_jobs_memory_is_its_own(spine: Spine) -> None:
    @job()
    def other(ctx: RunContext) -> Any:
        return ctx.recall("count")

    assert results(spine, {}) == [None]
    assert results(spine, {}, task=other) == [None]


def test_the_last_one_of_a_key_counts_wherever_it_was_remembered(spine: Spine) -> None:
    @job()
    def busy(ctx: RunContext) -> Any:
        before = {key: ctx.recall(key) for key in ("x", "y", "twice")}
        ctx.map(lambda key: ctx.remember(key, {"of": key}), ["x", "y"], concurrency=2)
        ctx.remember("twice", "first")
        spine.later(1)
        ctx.remember("twice", ["second", None])
        return before

    spine.run(busy)
    assert spine.run(busy).run.result == {"x": {"of": "x"}, "y": {"of": "y"}, "twice": ["second", None]}


def test_a_later_attempt_recalls_what_the_first_one_did_and_records_nothing_twice(spine: Spine) -> None:
    results(spine, {})

    @job(name="counter", retry=Retry(attempts=2))
    def dies_once(ctx: RunContext, key: str = "count", fail: bool = False) -> Any:
        before = ctx.recall(key)
        ctx.remember(key, 10)
        if ctx.attempt == 1:
            raise Killed
        return before

    killed = spine.killed(dies_once)
    assert results(spine, {}) == [1]
    # Another run succeeded meanwhile: this one goes on from what it began with, and the newer one's word stays the last.
    grant = spine.ledger.resume(spine.plan(dies_once, run_id=killed)).grant
    ran = spine.attempt(dies_once, grant)
    assert (ran.run.status, ran.run.result) == (RunStatus.SUCCEEDED, 1)
    assert len(spine.steps(killed, StepKind.RECALL)) == len(spine.steps(killed, StepKind.REMEMBER)) == 1
    assert results(spine, {}) == [2]


def test_what_is_no_json_is_refused_before_anything_is_recorded(spine: Spine) -> None:
    @job()
    def keeps_an_object(ctx: RunContext) -> None:
        ctx.remember("key", object())

    ran = spine.run(keeps_an_object)
    assert ran.run.status is RunStatus.FAILED
    assert "cannot be recorded as JSON" in str(ran.run.reason.facts["error"])
    assert spine.steps(ran.run.id) == []


def test_the_query_reads_by_indexes_and_sorts_no_more_than_one_run(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import text

    with spine.store.read() as connection:
        asked: list[str] = []
        real = connection.execute

        def noticed(query: Any, *args: Any) -> Any:
            asked.append(str(query.compile(connection.engine, compile_kwargs={"literal_binds": True})))
            return real(query, *args)

        monkeypatch.setattr(connection, "execute", noticed)
        steps.remembered(connection, "counter", "key")
        monkeypatch.undo()
        plan = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {asked[0]}"))]
    assert "SEARCH runs USING COVERING INDEX runs_of_job_by_status (job=? AND status=?)" in plan
    assert "SEARCH steps USING INDEX steps_by_place (run_id=? AND scope=? AND kind=?)" in plan
    assert not any(line.startswith("SCAN") or line == "USE TEMP B-TREE FOR ORDER BY" for line in plan), plan
