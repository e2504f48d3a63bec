"""traces.jsonl: one writer at a time, ours alone, rotated, and nothing lost."""

import stat
from pathlib import Path

from sqlalchemy import select

from taskpilot.domain.times import utc_now
from taskpilot.files import WaitBudget, file_lock
from taskpilot.store import tables
from taskpilot.store.database import Store
from taskpilot.store.trace_queries import claim_due_traces
from taskpilot.telemetry.traces.file import write_pending_traces
from tests.servers.recorded import T0, finished_run
from tests.traced import spans


def test_the_file_is_ours_alone_and_written_once(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    write_pending_traces(store, home, run_id=run_id)
    assert stat.S_IMODE((home / "traces.jsonl").stat().st_mode) == 0o600
    assert not write_pending_traces(store, home, run_id=run_id).spans
    assert len((home / "traces.jsonl").read_text().splitlines()) == 1


def test_a_file_that_cannot_be_written_leaves_the_spans_pending(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    (home / "traces.jsonl").mkdir()
    assert write_pending_traces(store, home, run_id=run_id).failed
    (home / "traces.jsonl").rmdir()
    assert len(write_pending_traces(store, home).spans) == 1


def test_a_link_in_the_place_of_the_file_is_not_followed(store: Store, home: Path, tmp_path: Path) -> None:
    run_id = finished_run(store)
    (home / "traces.jsonl").symlink_to(tmp_path / "elsewhere")
    assert write_pending_traces(store, home, run_id=run_id).failed
    assert not (tmp_path / "elsewhere").exists()


def test_one_writer_at_a_time(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    with file_lock(home / "locks" / "traces.lock", WaitBudget(1)):
        assert write_pending_traces(store, home, run_id=run_id, waits=WaitBudget(0.05)).failed
    assert len(write_pending_traces(store, home, run_id=run_id).spans) == 1


def test_a_long_journal_is_written_in_batches(store: Store, home: Path) -> None:
    run_id = finished_run(store)
    with store.write() as connection:
        template = {"run_id": run_id, "attempt": 1, "scope": "", "kind": "step", "status": "succeeded", "make": 0, "input_digest": ""}
        times = {"started_at": T0, "ended_at": T0 + 1, "ordinal": 0}
        rows = [{"id": f"s{number}", "key": f"k{number}", "name": f"n{number}", **template, **times} for number in range(1200)]
        connection.execute(tables.steps.insert(), rows)
    assert len(write_pending_traces(store, home, run_id=run_id).spans) == 1201
    assert len((home / "traces.jsonl").read_text().splitlines()) == 3
    assert len(spans(home)) == 1201


def test_the_file_is_rotated_and_keeps_three_old_ones(store: Store, home: Path) -> None:
    for number in range(6):
        run_id = finished_run(store, f"job{number}")
        assert not write_pending_traces(store, home, run_id=run_id, file_bytes=1000).failed
    files = sorted(path.name for path in home.glob("traces*"))
    assert files == ["traces.jsonl", "traces.jsonl.1", "traces.jsonl.2", "traces.jsonl.3"]
    for number, name in zip((5, 4, 3, 2), files, strict=True):
        (line,) = (home / name).read_text().splitlines()
        assert f"invoke_workflow job{number}" in line
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_a_rotation_loses_nothing_that_is_pending_to_a_collector(store: Store, home: Path) -> None:
    for _ in range(8):
        write_pending_traces(store, home, run_id=finished_run(store), file_bytes=1000, due_at=utc_now())
    with store.write() as connection:
        assert len(claim_due_traces(connection, utc_now(), until=utc_now(), limit=100)) == 8


def test_what_a_killed_supervisor_left_is_written_by_the_next(store: Store, home: Path) -> None:
    for _ in range(3):
        finished_run(store, "left")
    mine = finished_run(store, "mine")
    written = write_pending_traces(store, home, run_id=mine)
    assert [span.name for span in written.spans] == ["invoke_workflow mine", *["invoke_workflow left"] * 3]


def test_a_record_that_gives_no_spans_is_left_behind_not_tried_for_ever(store: Store, home: Path) -> None:
    broken = finished_run(store, trace_id="no hex at all")
    assert write_pending_traces(store, home, run_id=broken).failed
    with store.read() as connection:
        assert connection.execute(select(tables.attempts.c.traces_written_at)).scalar() is not None
    assert not write_pending_traces(store, home, run_id=broken).failed
