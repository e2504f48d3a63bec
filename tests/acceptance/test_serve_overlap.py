"""What a server does where a run meets another one, a limit, a command or a person's answer."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.acceptance.serving.server import Server, attempts_of, ended, fires_of, new_root, runs_of, serving, soon, wait
from tests.command import TaskPilot

SECOND = 1_000_000
PLACES = 3

JOB = """
import os, signal, time
from pathlib import Path
from taskpilot import Retry, RunContext, at, every, job

ROOT = Path(__file__).parent.parent


@job(schedule=SCHEDULE, ARGUMENTS)
def NAME(ctx: RunContext) -> str:
    BODY
    return "done"
"""
WAITS = """
    while not (ROOT / "NAME.open").exists():
        time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests; each has its own jobs, and removes those that go on for ever."""
    with serving(new_root(tmp_path_factory.mktemp("overlap")), TASKPILOT_MAX_CONCURRENT_RUNS=str(PLACES), TASKPILOT_MODEL="offline") as one:
        yield one


@contextmanager
def job(server: Server, name: str, arguments: str = "", *, schedule: str = 'every("1s")', body: str = WAITS) -> Iterator[TaskPilot]:
    """A job that runs until its gate is opened; out of the folder again after the block, with its runs ended."""
    path = server.taskpilot.root / "jobs" / f"{name}.py"
    text = JOB.replace("BODY", body.strip()).replace("NAME", name).replace("ARGUMENTS", arguments).replace("SCHEDULE", schedule)
    path.write_text(text)
    server.reload()
    try:
        yield server.taskpilot
    finally:
        path.unlink()
        server.reload()
        open_gate(server, name)
    wait(lambda: not outcomes(server, name, "buffered"), server.said)
    wait(lambda: not running(server, name), server.said)


def open_gate(server: Server, name: str) -> None:
    (server.taskpilot.root / f"{name}.open").touch()


def running(server: Server, name: str) -> list[str]:
    return [run["id"] for run in runs_of(server.taskpilot, name) if run["status"] == "running"]


def outcomes(server: Server, name: str, outcome: str) -> list[int]:
    """The times of a job's fires with that outcome."""
    return [fire["scheduled_for"] for fire in fires_of(server.taskpilot, name) if fire["outcome"] == outcome]


class TestOverlap:
    def test_skip_starts_nothing_beside_a_run_and_names_it(self, server: Server) -> None:
        with job(server, "skips", 'overlap="skip"') as taskpilot:
            # Between the claim of the first fire and the start of its run, it is the fire that is in the way.
            wait(lambda: runs_of(taskpilot, "skips"), server.said)
            before = len(outcomes(server, "skips", "skipped_overlap"))
            wait(lambda: len(outcomes(server, "skips", "skipped_overlap")) >= before + 2, server.said)
            [run] = runs_of(taskpilot, "skips")
            skipped = [fire for fire in fires_of(taskpilot, "skips") if fire["outcome"] == "skipped_overlap"]
            assert (skipped[-1]["reason_code"], json.loads(skipped[-1]["reason_facts"])) == ("run_active", {"run_id": run["id"]})
            open_gate(server, "skips")
            wait(lambda: len(runs_of(taskpilot, "skips")) >= 2, server.said)

    def test_buffer_one_keeps_the_next_fire_and_skips_the_rest(self, server: Server) -> None:
        with job(server, "buffers_one", 'overlap="buffer_one"') as taskpilot:
            wait(lambda: runs_of(taskpilot, "buffers_one"), server.said)
            wait(lambda: len(outcomes(server, "buffers_one", "skipped_overlap")) >= 2, server.said)
            [waiting] = outcomes(server, "buffers_one", "buffered")
            [first] = runs_of(taskpilot, "buffers_one")
            assert waiting == first["scheduled_for"] + SECOND
            open_gate(server, "buffers_one")
            wait(lambda: len(runs_of(taskpilot, "buffers_one")) >= 2, server.said)
            assert runs_of(taskpilot, "buffers_one")[1]["scheduled_for"] == waiting

    def test_buffer_all_runs_every_fire_one_after_the_other(self, server: Server) -> None:
        with job(server, "buffers_all", 'overlap="buffer_all"') as taskpilot:
            wait(lambda: runs_of(taskpilot, "buffers_all"), server.said)
            wait(lambda: len(outcomes(server, "buffers_all", "buffered")) >= 3, server.said)
            assert len(runs_of(taskpilot, "buffers_all")) == 1
            open_gate(server, "buffers_all")
            wait(lambda: len(outcomes(server, "buffers_all", "started")) >= 4, server.said)
        runs = runs_of(taskpilot, "buffers_all")
        times = [run["scheduled_for"] for run in runs]
        assert times[:4] == [times[0] + number * SECOND for number in range(4)]
        for earlier, later in itertools.pairwise(runs):
            assert later["started_at"] >= earlier["ended_at"]
        assert outcomes(server, "buffers_all", "skipped_overlap") == []

    def test_cancel_other_asks_the_run_to_end_and_starts_when_it_has(self, server: Server) -> None:
        body = f"""
    try:
        {WAITS.strip().replace(chr(10), chr(10) + "    ")}
    finally:
        (ROOT / "cleaned up").touch()
"""
        with job(server, "cancels", 'overlap="cancel_other"', schedule='every("3s")', body=body) as taskpilot:
            wait(lambda: len(runs_of(taskpilot, "cancels")) >= 2, server.said)
            first, second = runs_of(taskpilot, "cancels")[:2]
        assert (first["status"], first["reason_code"]) == ("cancelled", "replaced")
        assert second["started_at"] >= first["ended_at"]
        assert (taskpilot.root / "cleaned up").exists()

    def test_terminate_other_kills_the_run_at_once(self, server: Server) -> None:
        body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" + WAITS
        with job(server, "terminates", 'overlap="terminate_other"', schedule='every("3s")', body=body) as taskpilot:
            wait(lambda: len(runs_of(taskpilot, "terminates")) >= 2, server.said)
            first, second = runs_of(taskpilot, "terminates")[:2]
        assert (first["status"], first["reason_code"]) == ("cancelled", "replaced")
        # Not the 10 s that one gets to clean up.
        assert second["started_at"] - second["scheduled_for"] < 10 * SECOND

    def test_allow_all_runs_side_by_side_up_to_the_places(self, server: Server) -> None:
        with job(server, "allows", 'overlap="allow_all"') as taskpilot:
            wait(lambda: len(running(server, "allows")) == PLACES, server.said)
            wait(lambda: len(outcomes(server, "allows", "buffered")) >= 2, server.said)
            assert len(running(server, "allows")) == PLACES
            first = min(run["scheduled_for"] for run in runs_of(taskpilot, "allows"))
            open_gate(server, "allows")
            # Those of one hand-over may overtake each other; none is left out.
            due = {first + number * SECOND for number in range(PLACES + 2)}
            wait(lambda: due <= {run["scheduled_for"] for run in runs_of(taskpilot, "allows")}, server.said)


class TestLimits:
    def test_no_more_runs_than_places_and_the_rest_in_order(self, server: Server) -> None:
        names = [f"place_{letter}" for letter in "fedcba"]
        when = soon(12)
        for name in names:
            text = JOB.replace("BODY", "time.sleep(0.3)").replace("NAME", name).replace("ARGUMENTS", "").replace("SCHEDULE", when)
            server.taskpilot.job(text, name=name)
        server.reload()
        wait(lambda: all(ended(server.taskpilot, name) for name in names), server.said)
        runs = server.taskpilot.rows("SELECT job, started_at, ended_at FROM runs WHERE job LIKE 'place_%' ORDER BY started_at")
        for run in runs:
            assert sum(one["started_at"] <= run["started_at"] < one["ended_at"] for one in runs) <= PLACES
        # Due at one moment, they are started by name; the three of one hand-over may overtake each other.
        assert {run["job"] for run in runs[:PLACES]} == set(sorted(names)[:PLACES])
        assert {fire["outcome"] for name in names for fire in fires_of(server.taskpilot, name)} == {"started"}

    def test_a_fire_that_waited_past_its_start_deadline_is_missed(self, server: Server) -> None:
        with job(server, "hurries", 'overlap="buffer_all", start_deadline="2s"') as taskpilot:
            wait(lambda: len(outcomes(server, "hurries", "missed")) >= 1, server.said)
            missed = next(fire for fire in fires_of(taskpilot, "hurries") if fire["outcome"] == "missed")
            assert (missed["reason_code"], json.loads(missed["reason_facts"])["deadline_seconds"]) == ("start_deadline", 2)
            assert missed["recorded_at"] > missed["scheduled_for"] + 2 * SECOND

    def test_a_fire_with_jitter_starts_later_and_keeps_its_time(self, server: Server) -> None:
        with job(server, "shakes", 'jitter="3s", overlap="buffer_all"', body="pass") as taskpilot:
            wait(lambda: len(runs_of(taskpilot, "shakes")) >= 3, server.said)
            fires = {fire["scheduled_for"]: fire for fire in fires_of(taskpilot, "shakes") if fire["outcome"] == "started"}
        shifts = {fire["start_after"] - fire["scheduled_for"] for fire in fires.values()}
        assert len(shifts) > 1
        assert all(0 <= shift <= 3 * SECOND for shift in shifts)
        for run in runs_of(taskpilot, "shakes"):
            assert run["scheduled_for"] % SECOND == 0
            assert run["started_at"] >= fires.get(run["scheduled_for"], {"start_after": 0})["start_after"]

    def test_failures_in_a_row_pause_the_job_until_a_person_resumes_it(self, server: Server) -> None:
        with job(server, "fails", "pause_on_failure=2", body='raise ValueError("no")') as taskpilot:
            wait(lambda: len(outcomes(server, "fails", "paused")) >= 1, server.said)
            assert [run["status"] for run in runs_of(taskpilot, "fails")] == ["failed", "failed"]
            paused = next(fire for fire in fires_of(taskpilot, "fails") if fire["outcome"] == "paused")
            assert json.loads(paused["reason_facts"])["by"] == "taskpilot"
            assert "pause_on_failure=2" in paused["reason_facts"]
            assert taskpilot("jobs", "resume", "fails").code == 0
            wait(lambda: len(runs_of(taskpilot, "fails")) >= 3, server.said)


class TestCommandsBesideTheServer:
    def test_a_fire_belongs_to_the_command_or_to_the_server(self, server: Server) -> None:
        with job(server, "contested", schedule='every("2s")', body="time.sleep(0.1)") as taskpilot:
            wait(lambda: runs_of(taskpilot, "contested"), server.said)
            codes = [taskpilot("run", "contested", "--scheduled-for", "auto", "--quiet").code for _ in range(3)]
        assert set(codes) <= {0, 10, 11}
        times = [run["scheduled_for"] for run in runs_of(taskpilot, "contested")]
        assert len(times) == len(set(times))
        # A fire of before its job was known is nobody's until a command claims it.
        with job(server, "overdue", schedule=soon(-20), body="pass") as taskpilot:
            wait(lambda: taskpilot.rows("SELECT 1 FROM schedules WHERE job = 'overdue'"), server.said)
            line = ("run", "overdue", "--scheduled-for", "auto", "--quiet")
            assert (taskpilot(*line).code, taskpilot(*line).code) == (0, 11)
        assert [run["status"] for run in runs_of(taskpilot, "overdue")] == ["succeeded"]

    def test_a_run_of_the_server_is_cancelled_by_command(self, server: Server) -> None:
        with job(server, "unwanted", "retry=Retry(attempts=3)", schedule=soon()) as taskpilot:
            wait(lambda: running(server, "unwanted"), server.said)
            [run] = running(server, "unwanted")
            said = taskpilot("runs", "cancel", run)
            assert said.code == 0
            wait(lambda: ended(taskpilot, "unwanted"), server.said, seconds=15)
        assert attempts_of(taskpilot, "unwanted") == [("cancelled", "cancelled")]
        assert [run["status"] for run in runs_of(taskpilot, "unwanted")] == ["cancelled"]

    @pytest.mark.parametrize("verb", ["approve", "reject"])
    def test_the_server_goes_on_at_once_with_a_call_that_a_person_answers(self, server: Server, verb: str) -> None:
        name = f"asks_to_{verb}"
        body = """
    ctx.step("first", lambda: (ROOT / "NAME").open("a").write("x"))
    ctx.call("create_task", title="Sensitive matter", priority="high")
"""
        with job(server, name, schedule=soon(), body=body) as taskpilot:
            wait(lambda: [run["status"] for run in runs_of(taskpilot, name)] == ["waiting"], server.said)
            [run] = runs_of(taskpilot, name)
            [decision] = taskpilot.rows("SELECT id FROM decisions WHERE run_id = ? AND status = 'pending'", run["id"])
            said = taskpilot("decisions", verb, decision["id"])
            assert (said.code, said.err) == (0, "")
            assert f"the scheduler continues run {run['id']} now" in said.out
            wait(lambda: ended(taskpilot, name), server.said, seconds=15)
            [run] = runs_of(taskpilot, name)
            assert run["status"] == ("succeeded" if verb == "approve" else "denied")
            assert attempts_of(taskpilot, name)[0] == ("waiting", "approval")
            assert (taskpilot.root / name).read_text() == "x"

    def test_the_server_goes_on_at_once_with_a_task_that_a_person_approves(self, server: Server) -> None:
        with job(server, "reviews", schedule=soon(), body='ctx.workflow("Paper")') as taskpilot:
            wait(lambda: [run["status"] for run in runs_of(taskpilot, "reviews")] == ["waiting"], server.said)
            [task] = taskpilot("tasks", "list", "--status", "review", "--json").json
            assert "the scheduler continues run" in taskpilot("tasks", "approve", task["task_id"]).out
            wait(lambda: ended(taskpilot, "reviews"), server.said, seconds=15)
            assert [run["status"] for run in runs_of(taskpilot, "reviews")] == ["succeeded"]
