"""Results that are too large for the store are artifacts; later attempts, later runs and lists get what they need of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from taskpilot import RunContext, job, tool
from taskpilot.domain.errors import StoreError
from taskpilot.domain.runs import RunStatus
from taskpilot.journal.large_values import LARGE_BYTES, LargeValues
from taskpilot.store.listings import PREVIEW, Page, decisions_page, runs_page, tasks_page
from tests.spine import Killed, Spine

LARGE = "x" * (2 * LARGE_BYTES)
made: list[str] = []


def produce() -> str:
    made.append("step")
    return LARGE


@tool(idempotent=False)
def fetch() -> str:
    """Fetch a lot."""
    made.append("call")
    return LARGE


@job(tools=[fetch])
def heavy(ctx: RunContext) -> list[str]:
    """Make much data."""
    parts = [ctx.step("produce", produce), ctx.call(fetch), ctx.recall("all") or LARGE]
    ctx.remember("all", LARGE)
    if ctx.attempt == 1:
        raise Killed
    assert parts == [LARGE] * 3
    return parts


@pytest.fixture
def spine(tmp_path: Path) -> Any:
    opened = Spine(tmp_path)
    yield opened
    opened.close()


def test_a_large_result_is_an_artifact_with_a_note_and_is_whole_in_the_next_attempt(spine: Spine) -> None:
    made.clear()
    run_id = spine.killed(heavy)
    ran = spine.resume(heavy, run_id)
    assert (ran.run.status, made) == (RunStatus.SUCCEEDED, ["step", "call"])
    note = ran.run.result
    assert set(note) == {"$artifact", "run_id", "bytes", "sha256", "preview"}
    assert (note["run_id"], note["$artifact"], len(note["preview"])) == (run_id, "run-result.json", PREVIEW)
    file = spine.deployment.run_dir(run_id) / "artifacts" / note["$artifact"]
    assert file.stat().st_size == note["bytes"] > 6 * LARGE_BYTES
    # Another run reads what this one remembered.
    later = spine.killed(heavy)
    assert spine.resume(heavy, later).run.status is RunStatus.SUCCEEDED
    assert spine.store.path.stat().st_size < LARGE_BYTES


def test_a_list_has_the_begin_of_a_longer_result(spine: Spine) -> None:
    @job
    def middling(ctx: RunContext) -> str:
        """Return more than a list shows."""
        return "y" * 10 * PREVIEW

    whole = spine.run(middling).run.result
    assert whole == "y" * 10 * PREVIEW
    with spine.store.read() as connection:
        (listed,) = runs_page(connection, Page(limit=10))
    assert listed.result == {"preview": '"' + "y" * (PREVIEW - 1), "bytes": 10 * PREVIEW + 2}


def test_lists_of_tasks_and_decisions_have_the_begin_of_longer_texts(spine: Spine) -> None:
    long = "z" * 9_000

    @job
    def plans(ctx: RunContext) -> None:
        """File a task with a long description."""
        ctx.call("create_task", title="short", priority="low", description=long)

    run_id = spine.run(plans).run.id
    with spine.store.read() as connection:
        (decision,) = decisions_page(connection, Page(limit=10), statuses=("final", "pending"), run_id=run_id)
        (task,) = tasks_page(connection, Page(limit=10))
    text = json.dumps(spine.decisions(run_id)[0].arguments, ensure_ascii=False, separators=(",", ":"))
    assert long in text
    assert (set(decision.arguments), len(decision.arguments["preview"])) == ({"preview", "bytes"}, PREVIEW)
    assert decision.arguments["bytes"] > 9_000
    assert task.description == "z" * (PREVIEW - 1) + "…"
    assert [one.description for one in spine.tasks(run_id)] == [long]


def test_a_file_that_was_changed_or_is_gone_is_no_result(tmp_path: Path) -> None:
    run_id = "019a9f00-0000-7000-8000-00000000000a"
    values = LargeValues(tmp_path, run_id)
    note = values.keep("one", LARGE)
    assert values.read(note) == LARGE
    file = tmp_path / run_id / "artifacts" / "one.json"
    file.write_text('"another"')
    with pytest.raises(StoreError, match="is not the file"):
        values.read(note)
    file.unlink()
    with pytest.raises(StoreError, match="No such file"):
        values.read(note)
    with pytest.raises(StoreError, match="is not the file"):
        values.read({**note, "$artifact": "../../../etc/passwd"})


@pytest.mark.parametrize("value", [None, 1, True, "", {"$artifact": "x"}, ["é" * (LARGE_BYTES // 3)], "x" * (LARGE_BYTES - 2)])
def test_what_fits_is_kept_as_it_is(tmp_path: Path, value: object) -> None:
    values = LargeValues(tmp_path, "019a9f00-0000-7000-8000-00000000000a")
    assert values.keep("one", value) is value
    assert values.read(value) is value
    assert list(tmp_path.iterdir()) == []
