"""The life of a server: how it ends, what becomes of its runs, and what it does when parts of it are killed."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.acceptance.hostile import JOBS as HOSTILE
from tests.acceptance.kills.processes import alive, children
from tests.acceptance.serving.server import Server, attempts_of, ended, fires_of, new_root, runs_of, serving, soon, wait
from tests.command import TaskPilot

JOB = """
import os, time
from pathlib import Path
from taskpilot import Retry, RunContext, at, every, job, tool

ROOT = Path(__file__).parent.parent


def write(what):
    with (ROOT / "effects").open("ab", buffering=0) as file:
        file.write(f"{what}\\n".encode())


def gate(name):
    while not (ROOT / f"{name}.open").exists():
        time.sleep(0.01)


@job(schedule=SCHEDULE, ARGUMENTS)
def NAME(ctx: RunContext) -> str:
    ctx.step("first", lambda: write("NAME first"))
    write("NAME works")
    gate("NAME")
    return "done"
"""


def define(server: Server, name: str, arguments: str = "", *, schedule: str | None = None, hidden: str = "") -> None:
    """A job that writes down its one step, that it works, and stands until its gate is opened; a running server reads it at once."""
    text = JOB.replace("NAME", name).replace("ARGUMENTS", arguments).replace("SCHEDULE", schedule or soon())
    server.taskpilot.job(text + hidden, name=name)
    server.reload()


def effects(taskpilot: TaskPilot, what: str) -> int:
    """How often a job wrote that."""
    file = taskpilot.root / "effects"
    return file.read_text().splitlines().count(what) if file.exists() else 0


def works(server: Server, name: str, times: int = 1) -> None:
    wait(lambda: effects(server.taskpilot, f"{name} works") >= times, server.said)


def open_gate(taskpilot: TaskPilot, name: str) -> None:
    (taskpilot.root / f"{name}.open").touch()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it alive; each has its own jobs."""
    with serving(new_root(tmp_path_factory.mktemp("life"))) as one:
        yield one


class TestTheEnd:
    def test_sigterm_waits_for_a_run_that_ends_by_itself_and_starts_nothing_more(self, taskpilot: TaskPilot) -> None:
        with serving(taskpilot) as server:
            define(server, "patient")
            define(server, "ticks", schedule='every("1s")', arguments='overlap="skip"')
            open_gate(taskpilot, "ticks")
            works(server, "patient")
            server.send(signal.SIGTERM)
            wait(lambda: server.row()["state"] == "draining", server.said)
            started = len(runs_of(taskpilot, "ticks"))
            cursor = taskpilot.rows("SELECT cursor FROM schedules WHERE job = 'ticks'")
            wait(lambda: effects(taskpilot, "ticks works") == started)
            open_gate(taskpilot, "patient")
            assert server.wait() == 0
            assert server.row()["state"] == "stopped"
            assert server.row()["stopped_at"] is not None
            assert server.marked() == []
            assert "Traceback" not in server.said()
        assert [run["status"] for run in runs_of(taskpilot, "patient")] == ["succeeded"]
        # What was due meanwhile is left for the next server.
        assert len(runs_of(taskpilot, "ticks")) == started
        assert taskpilot.rows("SELECT cursor FROM schedules WHERE job = 'ticks'") == cursor

    def test_a_run_that_does_not_end_in_time_is_ended_and_the_next_server_goes_on_with_it(self, taskpilot: TaskPilot) -> None:
        with serving(taskpilot, TASKPILOT_DRAIN_TIMEOUT="1s") as server:
            define(server, "long", "retry=Retry(attempts=2)")
            define(server, "once")
            works(server, "long")
            works(server, "once")
            assert server.stop() == 0
            assert server.row()["state"] == "stopped"
            assert server.marked() == []
        assert attempts_of(taskpilot, "long") == [("lost", "sigterm")]
        assert [(run["status"], run["reason_code"]) for run in runs_of(taskpilot, "once")] == [("lost", "sigterm")]
        open_gate(taskpilot, "long")
        with serving(taskpilot) as server:
            wait(lambda: ended(taskpilot, "long"), server.said)
        assert attempts_of(taskpilot, "long") == [("lost", "sigterm"), ("succeeded", "")]
        # Its recorded step is not made again, and a run without an attempt left stays as it is.
        assert effects(taskpilot, "long first") == 1
        assert attempts_of(taskpilot, "once") == [("lost", "sigterm")]

    def test_a_second_signal_cuts_the_wait_short(self, taskpilot: TaskPilot) -> None:
        with serving(taskpilot, TASKPILOT_DRAIN_TIMEOUT="600s") as server:
            define(server, "long", "retry=Retry(attempts=2)")
            works(server, "long")
            server.send(signal.SIGINT)
            wait(lambda: server.row()["state"] == "draining", server.said)
            assert attempts_of(taskpilot, "long") == [("running", "")]
            assert server.stop(signal.SIGINT) == 0
            assert server.marked() == []
        assert attempts_of(taskpilot, "long") == [("lost", "sigterm")]

    def test_a_killed_server_leaves_its_runs_alone_and_the_next_one_goes_on(self, taskpilot: TaskPilot) -> None:
        with serving(taskpilot) as server:
            define(server, "outlives")
            works(server, "outlives")
            server.send(signal.SIGKILL)
            server.wait()
            open_gate(taskpilot, "outlives")
            wait(lambda: ended(taskpilot, "outlives"))
            # The fork server left when the server was gone, the supervisor when its run was recorded.
            wait(lambda: server.marked() == [], server.marked)
            assert attempts_of(taskpilot, "outlives") == [("succeeded", "")]
            server.start()
            server.wait_until_it_keeps_time()
            define(server, "later")
            open_gate(taskpilot, "later")
            wait(lambda: ended(taskpilot, "later"), server.said)
            assert [fire["outcome"] for fire in fires_of(taskpilot, "later")] == ["started"]


class TestJobFiles:
    def test_a_changed_file_is_read_without_a_signal_and_each_attempt_names_its_text(self, server: Server) -> None:
        taskpilot = server.taskpilot
        define(server, "changing", schedule='every("1s")')
        open_gate(taskpilot, "changing")
        works(server, "changing")
        path = taskpilot.root / "jobs" / "changing.py"
        path.write_text(path.read_text().replace("changing works", "changing differs"))
        wait(lambda: effects(taskpilot, "changing differs") >= 1, server.said, seconds=20)
        digests = taskpilot.rows(
            "SELECT DISTINCT a.file_digest AS digest FROM attempts a JOIN runs r ON r.id = a.run_id WHERE r.job = 'changing'"
        )
        assert len(digests) == 2
        path.unlink()
        server.reload()
        wait(lambda: not taskpilot.rows("SELECT 1 FROM schedules WHERE job = 'changing'"), server.said)
        assert taskpilot.rows("SELECT 1 FROM past_schedules WHERE job = 'changing'")
        wait(lambda: not taskpilot.rows("SELECT 1 FROM fires WHERE job = 'changing' AND outcome = 'buffered'"), server.said)
        last = len(fires_of(taskpilot, "changing"))
        define(server, "after_removal")
        works(server, "after_removal")
        open_gate(taskpilot, "after_removal")
        assert len(fires_of(taskpilot, "changing")) == last

    def test_a_broken_file_blocks_its_fires_by_name_and_line_and_no_others(self, server: Server) -> None:
        taskpilot = server.taskpilot
        define(server, "breaks", schedule='every("1s")')
        define(server, "stands", schedule='every("1s")')
        for name in ("breaks", "stands"):
            open_gate(taskpilot, name)
            works(server, name)
        path = taskpilot.root / "jobs" / "breaks.py"
        good = path.read_text()
        path.write_text(good + "\nthis is no python\n")
        server.reload()
        blocked = "SELECT * FROM fires WHERE job = 'breaks' AND outcome = 'blocked_config' ORDER BY scheduled_for"
        wait(lambda: len(taskpilot.rows(blocked)) >= 2, server.said)
        line = len(good.splitlines()) + 2
        for fire in taskpilot.rows(blocked):
            assert "breaks.py" in fire["reason_facts"]
            assert f"line {line}" in fire["reason_facts"] or f":{line}" in fire["reason_facts"], fire["reason_facts"]
        before = len(runs_of(taskpilot, "stands"))
        wait(lambda: len(runs_of(taskpilot, "stands")) >= before + 2, server.said)
        wait(lambda: "breaks.py" in server.row()["broken"], server.row)
        path.write_text(good)
        server.reload()
        before = len(runs_of(taskpilot, "breaks"))
        wait(lambda: len(runs_of(taskpilot, "breaks")) > before, server.said)
        wait(lambda: "breaks.py" not in server.row()["broken"], server.row)
        for name in ("breaks", "stands"):
            (taskpilot.root / "jobs" / f"{name}.py").unlink()
        server.reload()


class TestKills:
    def test_a_killed_fork_server_is_replaced_and_its_runs_end_by_themselves(self, server: Server) -> None:
        taskpilot = server.taskpilot
        define(server, "before")
        works(server, "before")
        killed = server.fork_server
        os.kill(killed, signal.SIGKILL)
        define(server, "after")
        works(server, "after")
        assert server.fork_server != killed
        for name in ("before", "after"):
            open_gate(taskpilot, name)
            wait(partial(ended, taskpilot, name), server.said)
            assert attempts_of(taskpilot, name) == [("succeeded", "")]

    def test_a_killed_supervisor_takes_its_whole_tree_along_and_the_run_goes_on(self, server: Server) -> None:
        taskpilot = server.taskpilot
        tree = "\n\n" + HOSTILE.partition("def stubborn_tree")[2].partition("\n\n\n@job")[0]
        hidden = "import signal, subprocess, sys\n\ndef stubborn_tree" + tree.strip("\n")
        define(server, "treed", "retry=Retry(attempts=2)", hidden=f"\n\n{hidden}\n")
        path = taskpilot.root / "jobs" / "treed.py"
        path.write_text(path.read_text().replace('    gate("treed")', '    stubborn_tree()\n    write("treed grew")\n    gate("treed")'))
        server.reload()
        wait(lambda: effects(taskpilot, "treed grew") == 1, server.said)
        [run] = runs_of(taskpilot, "treed")
        [supervisor] = [pid for pid in server.supervisors() if pid in children(server.fork_server)]
        [notes] = taskpilot.root.glob("notes-*")
        family = [int(pid) for pid in notes.read_text().split()] + children(supervisor)
        assert len(family) >= 4
        os.kill(supervisor, signal.SIGKILL)
        wait(lambda: not any(alive(pid) for pid in family), lambda: [pid for pid in family if alive(pid)], seconds=5)
        wait(lambda: len(attempts_of(taskpilot, "treed")) == 2, server.said, seconds=45)
        open_gate(taskpilot, "treed")
        wait(lambda: ended(taskpilot, "treed"), server.said)
        assert attempts_of(taskpilot, "treed") == [("lost", "lease"), ("succeeded", "")]
        assert effects(taskpilot, "treed first") == 1
        assert runs_of(taskpilot, "treed")[0]["id"] == run["id"]

    def test_a_killed_supervisor_of_a_run_without_a_retry_is_lost_for_good(self, server: Server) -> None:
        taskpilot = server.taskpilot
        define(server, "fragile")
        works(server, "fragile")
        [supervisor] = [pid for pid in server.supervisors() if pid in children(server.fork_server)]
        os.kill(supervisor, signal.SIGKILL)
        wait(lambda: ended(taskpilot, "fragile"), server.said, seconds=45)
        assert attempts_of(taskpilot, "fragile") == [("lost", "lease")]
        assert runs_of(taskpilot, "fragile")[0]["status"] == "lost"


FIRST_ANSWER = """
import os, signal, sys
from taskpilot.cli.program import main
from taskpilot.web.server import HttpServer

start = HttpServer.start
HttpServer.start = lambda self: (start(self), os.kill(os.getpid(), signal.SIGTERM))
sys.exit(main(["serve", "--port", "0"]))
"""


def test_a_client_that_stops_the_server_at_the_first_answer_leaves_no_row_that_is_starting(taskpilot: TaskPilot) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST_ANSWER], cwd=taskpilot.root, env=taskpilot.environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "goodbye" in done.stderr
    assert [row["state"] for row in taskpilot.rows("SELECT state FROM schedulers")] == ["stopped"]


def test_two_servers_share_one_store_and_start_each_fire_once(server: Server) -> None:
    taskpilot = server.taskpilot
    with serving(taskpilot) as other:
        define(server, "shared", 'overlap="allow_all"', schedule='every("1s")')
        other.reload()
        open_gate(taskpilot, "shared")
        wait(lambda: len(runs_of(taskpilot, "shared")) >= 4, server.said)
        # Its file stays: each of its runs loads it.
        assert taskpilot("jobs", "pause", "shared").code == 0
        assert other.stop() == 0
        wait(lambda: not taskpilot.rows("SELECT 1 FROM fires WHERE job = 'shared' AND outcome = 'buffered'"), server.said)
        wait(lambda: ended(taskpilot, "shared"), server.said)
    times = [run["scheduled_for"] for run in runs_of(taskpilot, "shared")]
    assert len(times) == len(set(times)) == effects(taskpilot, "shared works")
    started = [fire["scheduled_for"] for fire in fires_of(taskpilot, "shared") if fire["outcome"] == "started"]
    assert sorted(times) == started
    # No second between the first and the last is missing.
    assert {later - earlier for earlier, later in itertools.pairwise(started)} == {1_000_000}


def test_a_server_does_not_wait_for_runs_that_a_killed_fork_server_left(taskpilot: TaskPilot) -> None:
    with serving(taskpilot) as server:
        define(server, "left_alone")
        works(server, "left_alone")
        os.kill(server.fork_server, signal.SIGKILL)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 20
        open_gate(taskpilot, "left_alone")
        wait(lambda: ended(taskpilot, "left_alone"), server.said)
        assert attempts_of(taskpilot, "left_alone") == [("succeeded", "")]
