"""What a prune deletes, and all that it must leave: what is waited for, recalled, pending, counted or due."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot import RunContext, job
from taskpilot.domain.errors import UsageError
from taskpilot.domain.fires import Fire, Gap
from taskpilot.domain.ids import new_id
from taskpilot.domain.reasons import NO_REASON
from taskpilot.domain.runs import FeedbackVerdict, FireOutcome, RunStatus
from taskpilot.domain.steps import MEMORY, StepKind, StepStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.domain.times import to_micros
from taskpilot.messages.moments import explain
from taskpilot.services.approvals import give_feedback
from taskpilot.services.database import Pruned, prune_history
from taskpilot.store import fires, pruning, totals
from taskpilot.views.why import why
from tests.errors import saying
from tests.records import add_agent, add_decision, add_run, add_step, add_task
from tests.spine import Spine
from tests.timeline import MONDAY, Timeline

AGE = timedelta(days=90)
TABLES = ("runs", "attempts", "steps", "agent_invocations", "tasks", "decisions", "feedback", "fires", "fire_gaps")


@pytest.fixture
def timeline(tmp_path: Path) -> Iterator[Timeline]:
    opened = Timeline(tmp_path)
    yield opened
    opened.close()


def rows(timeline: Timeline, table: str) -> int:
    with timeline.deployment.store.read() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() or 0)


def ids(timeline: Timeline) -> set[str]:
    with timeline.deployment.store.read() as connection:
        return set(connection.exec_driver_sql("SELECT id FROM runs").scalars())


def numbers(timeline: Timeline) -> list[Any]:
    with timeline.deployment.store.read() as connection:
        return [connection.exec_driver_sql(f"SELECT * FROM {table}").fetchall() for table in ("totals", "job_state", "schedules")]


def old(timeline: Timeline, days: float = 91, *, traces: bool = True, folder: bool = False, **columns: Any) -> str:
    """A run that ended so many days before now; its spans are written."""
    run_id = add_run(timeline.deployment.store, **{"ended_at": to_micros(timeline.clock() - timedelta(days=days)), **columns})
    if traces:
        with timeline.deployment.store.write() as connection:
            connection.exec_driver_sql("UPDATE attempts SET traces_written_at = 1 WHERE run_id = ?", (run_id,))
    if folder:
        (timeline.deployment.make_run_dir(run_id) / "output.log").write_text("said")
    return run_id


def test_an_old_run_goes_with_all_that_belongs_to_it_and_no_counter_changes(timeline: Timeline) -> None:
    store = timeline.deployment.store
    gone = old(timeline, folder=True)
    add_task(store, gone)
    add_step(store, gone)
    add_agent(store, gone, "planner", "/workflow.0")
    decision = add_decision(store, gone)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE decisions SET status = 'approved' WHERE id = ?", (decision,))
        totals.mark_dirty(connection, "triage")
    give_feedback(timeline.deployment, gone, FeedbackVerdict.CORRECT, by="ada", note="")
    timeline.record(MONDAY - timedelta(days=91), FireOutcome.STARTED, run_id=gone)
    timeline.record(MONDAY - timedelta(days=1), FireOutcome.MISSED)
    stays, before = old(timeline, 89, folder=True), numbers(timeline)
    elsewhere = timeline.deployment.settings.root / "elsewhere"
    elsewhere.mkdir()
    (timeline.deployment.run_dir(gone) / "link").symlink_to(elsewhere)
    assert prune_history(timeline.deployment, AGE, dry_run=True).runs == 1
    assert ids(timeline) == {gone, stays}
    found = prune_history(timeline.deployment, AGE)
    assert (found.runs, found.fires, found.kept, found.folders, found.folders_left, found.finished) == (1, 1, 0, 1, 0, True)
    assert ids(timeline) == {stays}
    assert {table: rows(timeline, table) for table in TABLES} == dict.fromkeys(TABLES, 0) | {"runs": 1, "attempts": 1, "fires": 1}
    assert numbers(timeline) == before
    assert not timeline.deployment.run_dir(gone).exists()
    assert timeline.deployment.run_dir(stays).exists()
    assert elsewhere.exists()
    assert prune_history(timeline.deployment, AGE).runs == 0


def test_what_somebody_waits_for_or_is_pending_stays(timeline: Timeline) -> None:
    store = timeline.deployment.store
    kept = {
        old(timeline, status=RunStatus.WAITING),
        old(timeline, status=RunStatus.RUNNING),
        old(timeline, status=RunStatus.QUEUED, ended_at=None),
        old(timeline, traces=False),
    }
    for status in (RunStatus.FAILED, RunStatus.LOST):
        kept.add(review := old(timeline, status=status))
        add_task(store, review, status=TaskStatus.REVIEW)
        kept.add(pending := old(timeline, status=status))
        add_decision(store, pending)
    cancelled = old(timeline, status=RunStatus.CANCELLED)
    add_task(store, cancelled, status=TaskStatus.REVIEW)
    kept.add(newest := old(timeline))
    found = prune_history(timeline.deployment, AGE)
    assert (ids(timeline), found.runs, found.kept) == (kept, 1, 6)
    old(timeline, 1)
    prune_history(timeline.deployment, AGE)
    assert newest not in ids(timeline)


@pytest.mark.parametrize(("settings", "kept"), [("", 1), ('[otel]\nendpoint = "http://collector:4317"\n', 2)], ids=["nobody", "named"])
def test_what_a_collector_that_somebody_named_did_not_get_stays(settings: str, kept: int, tmp_path: Path) -> None:
    timeline = Timeline(tmp_path, settings=settings)
    for _ in range(2):
        run_id = old(timeline)
        with timeline.deployment.store.write() as connection:
            connection.exec_driver_sql("UPDATE attempts SET traces_due_at = 5 WHERE run_id = ?", (run_id,))
    prune_history(timeline.deployment, AGE)
    assert len(ids(timeline)) == kept
    timeline.close()


def test_as_many_runs_stay_as_decide_whether_failures_pause_the_job(timeline: Timeline) -> None:
    made = [old(timeline, 500 - number, status=RunStatus.FAILED, pause_after_failures=3) for number in range(6)]
    prune_history(timeline.deployment, AGE)
    assert ids(timeline) == set(made[-3:])


def test_the_newest_word_of_each_key_stays_as_long_as_nothing_newer_is_remembered(timeline: Timeline) -> None:
    def remembers(days: float, *keys: str, status: RunStatus = RunStatus.SUCCEEDED) -> str:
        run_id = old(timeline, days, status=status)
        for key in keys:
            add_step(timeline.deployment.store, run_id, kind=StepKind.REMEMBER, name=key, status=StepStatus.SUCCEEDED, scope=MEMORY)
        return run_id

    first, second = remembers(400, "a"), remembers(300, "a", "b")
    third = remembers(200, "a")
    remembers(150, "b", status=RunStatus.FAILED)
    recent = remembers(1)
    prune_history(timeline.deployment, AGE)
    assert ids(timeline) == {second, third, recent}, first
    remembers(1, "b")
    prune_history(timeline.deployment, AGE)
    assert ids(timeline) & {second, third} == {third}


def test_a_real_job_recalls_the_same_before_and_after(tmp_path: Path) -> None:
    @job()
    def counter(ctx: RunContext, key: str = "") -> Any:
        found = ctx.recall("count")
        if key:
            ctx.remember(key, (found or 0) + 1)
        return found

    spine = Spine(tmp_path)
    for key in ("count", "count", "", "other", ""):
        spine.run(counter, parameters={"key": key})
    with spine.store.write() as connection:
        connection.exec_driver_sql("UPDATE attempts SET traces_written_at = 1")
    spine.later(100 * 86_400)
    assert prune_history(spine.deployment, AGE).runs == 2
    assert spine.run(counter).run.result == 2
    spine.close()


def test_fires_stay_that_would_be_due_again_or_begin_the_next_interval(timeline: Timeline) -> None:
    timeline.follow()
    timeline.met()
    waiting = old(timeline, status=RunStatus.WAITING)
    days = (200, 150, 120, 100, 95)
    for number in days:
        run_id = waiting if number == 150 else None
        outcome = FireOutcome.BUFFERED if number == 120 else FireOutcome.STARTED
        timeline.record(MONDAY - timedelta(days=number), outcome, run_id=run_id)
    with timeline.deployment.store.write() as connection:
        cursor = to_micros(MONDAY - timedelta(days=96))
        connection.exec_driver_sql("UPDATE schedules SET cursor = ?", (cursor,))
    assert prune_history(timeline.deployment, AGE).fires == 2

    def left() -> list[int]:
        with timeline.deployment.store.read() as connection:
            found = connection.exec_driver_sql("SELECT scheduled_for FROM fires ORDER BY scheduled_for").scalars()
            return [(to_micros(MONDAY) - one) // (86_400 * 1_000_000) for one in found]

    assert left() == [150, 120, 95]
    timeline.record(MONDAY - timedelta(days=93), FireOutcome.STARTED)
    prune_history(timeline.deployment, AGE)
    assert left() == [150, 120, 95, 93], "the schedule's cursor stands before 95: without its row that fire would be due again"


def test_a_pruned_fire_is_not_called_unclaimed(timeline: Timeline) -> None:
    timeline.follow()
    morning = (MONDAY + timedelta(days=1)).replace(hour=6)
    timeline.record(morning, FireOutcome.STARTED)
    timeline.record(morning + timedelta(days=199), FireOutcome.STARTED)
    timeline.later(days=200)
    with timeline.deployment.store.write() as connection:
        connection.exec_driver_sql("UPDATE schedules SET cursor = ?", (to_micros(timeline.clock()),))
    assert why(timeline.deployment, "triage", at=morning.isoformat()).outcome == "started"
    assert prune_history(timeline.deployment, AGE).fires == 1
    found = why(timeline.deployment, "triage", at=morning.isoformat())
    assert found.outcome == "unrecorded"
    assert explain(found).sentence.endswith(" before then, or the record was deleted because of its age.")


def test_a_folder_that_a_killed_prune_left_goes_with_the_next_one_and_a_strangers_stays(timeline: Timeline) -> None:
    folder = timeline.deployment.settings.state_dir / "runs"
    young = new_id()
    left = f"01936b2e-0000-7000-8000-{0:012d}"
    old(timeline, 1)
    for name in (young, left, "notes"):
        (folder / name / "below").mkdir(parents=True)
    assert prune_history(timeline.deployment, timedelta(days=200)).folders == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted([young, "notes"])


def test_a_day_is_the_least_and_no_store_is_made(timeline: Timeline) -> None:
    assert prune_history(timeline.deployment, AGE) == Pruned()
    assert not timeline.deployment.settings.state_dir.exists()
    with pytest.raises(UsageError, check=saying("at least 1d")):
        prune_history(timeline.deployment, timedelta(hours=23))


def test_a_run_of_many_steps_goes_in_parts_and_a_prune_that_has_no_time_goes_on_later(
    timeline: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "ROWS_MAX", 10)
    big = old(timeline)
    for _ in range(25):
        add_step(timeline.deployment.store, big)
    old(timeline, 1)
    with timeline.deployment.store.write() as connection:
        batch = pruning.prune_runs(connection, timeline.clock() - AGE, pruning.Position())
    assert (batch.deleted, batch.over) == ((), False)
    assert rows(timeline, "steps") == 15
    found = prune_history(timeline.deployment, AGE, seconds=0)
    assert (found.runs, found.finished) == (0, False)
    found = prune_history(timeline.deployment, AGE)
    assert (found.runs, found.finished, rows(timeline, "steps")) == (1, True, 0)


def test_others_write_while_history_goes(timeline: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "ROWS_MAX", 25)
    for number in range(40):
        run_id = old(timeline, 91 + number / 10_000)
        with timeline.deployment.store.write() as connection:
            for one in range(20):
                connection.exec_driver_sql(
                    "INSERT INTO steps (id, run_id, attempt, scope, kind, name, ordinal, key, make, status, input_digest, started_at) "
                    "VALUES (?, ?, 1, '/', 'step', 'x', 0, ?, 0, 'succeeded', '', 0)",
                    (new_id(), run_id, str(one)),
                )
    old(timeline, 1)
    found: list[Pruned] = []
    pruner = threading.Thread(target=lambda: found.append(prune_history(timeline.deployment, AGE)))
    writes = 0
    pruner.start()
    while pruner.is_alive():
        with timeline.deployment.store.write() as connection:
            totals.mark_dirty(connection, "other")
        writes += 1
    pruner.join()
    assert (found[0].runs, rows(timeline, "steps")) == (40, 0)
    # Nobody was turned away (StoreBusy), and not only at the beginning and the end.
    assert writes > 2


def test_gaps_go_like_fires(timeline: Timeline) -> None:
    def gap(first: float, last: float) -> Gap:
        begin, end = (MONDAY - timedelta(days=days) for days in (first, last))
        return Gap("triage", begin, end, 10, FireOutcome.MISSED, NO_REASON, "{}", end)

    with timeline.deployment.store.write() as connection:
        totals.mark_dirty(connection, "triage")
        for each in (gap(200, 100), gap(100, 80)):
            fires.insert_gap(connection, each)
        fires.insert_fires(connection, [Fire("triage", MONDAY, FireOutcome.STARTED, None, NO_REASON, MONDAY)])
    assert prune_history(timeline.deployment, AGE, dry_run=True).fires == 1
    assert prune_history(timeline.deployment, AGE).fires == 1
    assert rows(timeline, "fire_gaps") == 1
