"""A server whose store is locked, gone or full, or that was not awake: it says so, loses no fire, and heals by itself."""

import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.serving.server import Server, ended, fires_of, new_root, runs_of, serving, soon, wait
from tests.acceptance.stores import fill
from tests.command import TaskPilot

SECOND = 1_000_000
DB = "taskpilot.db"

TICKS = """
from taskpilot import RunContext, every, job


@job(schedule=every("1s"), overlap="allow_all")
def ticks(ctx: RunContext) -> None: ...
"""
ONCE = """
from taskpilot import RunContext, at, job


@job(schedule=SCHEDULE, catch_up="POLICY")
def NAME(ctx: RunContext) -> None: ...
"""


class Manager:
    """What a service manager hears at NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.address = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.address))
        self.heard: list[tuple[float, list[str]]] = []
        """Every message so far: when it came, and its lines."""
        # The system keeps ten messages for a listener, no more.
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def lines(self, since: int = 0) -> list[str]:
        """The lines of all messages, or of those after so many."""
        return [line for _, lines in self.heard[since:] for line in lines]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(b"", str(self.address))
        self._listener.join()
        self._socket.close()

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self.heard.append((time.monotonic(), message.decode().split("\n")))


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    """Its path is short: a socket's may have 107 characters."""
    one = Manager(tmp_path_factory.mktemp("sd"))
    yield one
    one.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, manager: Manager) -> Iterator[Server]:
    """One server for all; its short lease makes it wait a second for a lock."""
    taskpilot = new_root(tmp_path_factory.mktemp("store"))
    taskpilot.job(TICKS, name="ticks")
    # The runs that a command starts are not the service manager's business; the test's own commands do not have it.
    with serving(taskpilot, NOTIFY_SOCKET=str(manager.address), TASKPILOT_LEASE_SECONDS="6") as one:
        wait(lambda: runs_of(taskpilot, "ticks"), one.said)
        yield one


def log(server: Server) -> str:
    return (server.taskpilot.state_dir / "logs" / "taskpilot.log").read_text()


def works_again(server: Server, since: int) -> None:
    """Runs have started that were due after an instant in microseconds, and nothing is in the queue for long."""
    wait(lambda: sum(run["scheduled_for"] > since for run in runs_of(server.taskpilot, "ticks")) >= 2, server.said)


def no_second_is_missing(taskpilot: TaskPilot) -> None:
    times = [fire["scheduled_for"] for fire in fires_of(taskpilot, "ticks")]
    assert {later - earlier for earlier, later in itertools.pairwise(times)} == {SECOND}


def now() -> int:
    return int(time.time() * SECOND)


def test_the_service_manager_hears_that_it_is_ready_and_goes_on(server: Server, manager: Manager) -> None:
    heard = len(manager.heard)
    wait(lambda: manager.lines(heard).count("WATCHDOG=1") >= 5, server.said)
    lines = manager.lines()
    assert lines.count("READY=1") == 1
    assert lines[lines.index("READY=1") + 1] == "STATUS=scheduler running"
    moments = [moment for moment, said in manager.heard[heard:] if "WATCHDOG=1" in said]
    # A watchdog of half a minute would be content, on a busy machine too.
    assert max(later - earlier for earlier, later in itertools.pairwise(moments)) < 15


def test_a_locked_store_is_waited_for_and_said(server: Server, manager: Manager) -> None:
    taskpilot = server.taskpilot
    heard, events = len(manager.heard), taskpilot.rows("SELECT * FROM clock_events")
    with closing(sqlite3.connect(taskpilot.state_dir / DB, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait(lambda: any("is locked by another process" in line for line in manager.lines(heard)), server.said)
        wait(lambda: manager.lines(heard).count("WATCHDOG=1") >= 3, server.said)
        other.execute("ROLLBACK")
    unlocked = now()
    works_again(server, unlocked)
    # What was on its way to a process is started too, not only when its time to start has passed.
    waiting = "SELECT 1 FROM fires WHERE job = 'ticks' AND outcome = 'buffered' AND scheduled_for < ?"
    wait(lambda: not taskpilot.rows(waiting, unlocked), server.said, seconds=15)
    wait(lambda: server.row()["error"] is None, server.row)
    assert "the scheduler could not do its work and tries again: the store" in log(server)
    assert "the scheduler works again after: the store" in log(server)
    no_second_is_missing(taskpilot)
    assert taskpilot.rows("SELECT * FROM clock_events") == events
    assert "Traceback" not in server.said()


def test_a_store_that_is_moved_away_is_said_and_taken_up_again_when_it_is_back(server: Server, manager: Manager) -> None:
    taskpilot = server.taskpilot
    names = [f"{DB}{suffix}" for suffix in ("", "-wal", "-shm")]
    away = taskpilot.root / "away"
    away.mkdir()
    for name in names:
        (taskpilot.state_dir / name).rename(away / name)
    wait(lambda: any("the file is gone" in line for line in manager.lines()), server.said)
    assert not (taskpilot.state_dir / DB).exists()
    # The database last: no process opens it without its log.
    for name in reversed(names):
        if (away / name).exists():
            (away / name).rename(taskpilot.state_dir / name)
    works_again(server, now())
    assert "works again after: the store" in log(server)
    no_second_is_missing(taskpilot)
    assert "Traceback" not in server.said()


@pytest.mark.slow
def test_a_server_that_stood_still_records_it_and_catches_up(server: Server) -> None:
    taskpilot = server.taskpilot
    started = len(taskpilot.rows("SELECT 1 FROM clock_events"))
    when = soon(10)
    for policy in ("last", "skip"):
        taskpilot.job(ONCE.replace("NAME", f"once_{policy}").replace("POLICY", policy).replace("SCHEDULE", when), name=f"once_{policy}")
    server.reload()
    wait(lambda: len(taskpilot.rows("SELECT 1 FROM schedules WHERE job LIKE 'once_%'")) == 2, server.said)
    assert fires_of(taskpilot, "once_last") == []
    os.kill(server.pid, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        # After 30 s, no scheduler has seen a fire. There is no quicker way to be asleep.
        time.sleep(41)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert time.monotonic() - stopped < 55
    wait(lambda: ended(taskpilot, "once_last"), server.said)
    [event] = taskpilot.rows("SELECT * FROM clock_events")[started:]
    assert event["kind"] == "asleep"
    assert 30 * SECOND < event["to_at"] - event["from_at"] < 60 * SECOND
    [skipped] = fires_of(taskpilot, "once_skip")
    assert (skipped["outcome"], json.loads(skipped["reason_facts"])["unseen"]) == ("missed", "asleep")
    assert skipped["reason_code"] == "catch_up_off"
    assert [fire["outcome"] for fire in fires_of(taskpilot, "once_last")] == ["started"]
    works_again(server, now())
    no_second_is_missing(taskpilot)
    late = [fire for fire in fires_of(taskpilot, "ticks") if fire["outcome"] == "coalesced"]
    assert late
    assert all(json.loads(fire["reason_facts"])["unseen"] == "asleep" for fire in late)


def test_the_end_is_told_too(taskpilot: TaskPilot, tmp_path_factory: pytest.TempPathFactory) -> None:
    taskpilot.job(TICKS, name="ticks")
    manager = Manager(tmp_path_factory.mktemp("sd"))
    try:
        with serving(taskpilot, NOTIFY_SOCKET=str(manager.address)) as server:
            wait(lambda: runs_of(taskpilot, "ticks"), server.said)
            assert server.stop() == 0
        lines = manager.lines()
    finally:
        manager.close()
    assert lines[lines.index("STOPPING=1") + 1] == "STATUS=waiting for its runs to end"


def test_a_full_disk_is_said_and_room_heals_it(taskpilot: TaskPilot, small_disk: Callable[[Path, str], Path]) -> None:
    small_disk(taskpilot.state_dir, "16m")
    taskpilot.job(TICKS, name="ticks")
    with serving(taskpilot, TASKPILOT_LEASE_SECONDS="6") as server:
        wait(lambda: runs_of(taskpilot, "ticks"), server.said)
        filler = fill(taskpilot.state_dir)
        wait(lambda: "the scheduler could not do its work and tries again: the st" in server.said(), server.said, seconds=30)
        wait(lambda: answer(server, "/readyz")[0] == 503, server.said)
        code, body = answer(server, "/health")
        assert (code, body["status"]) == (503, "fail")
        assert "full" in json.dumps(body["findings"])
        full = now()
        filler.unlink()
        works_again(server, full + 5 * SECOND)
        wait(lambda: answer(server, "/readyz")[0] == 200, server.said)
        no_second_is_missing(taskpilot)
        assert "taskpilot: the scheduler works again\n" in server.said()
        assert server.row()["error"] is None
        assert "Traceback" not in server.said()


def test_a_backup_that_is_copied_over_a_running_store_stops_it_and_a_restore_mends_it(taskpilot: TaskPilot) -> None:
    taskpilot.job(TICKS, name="ticks")
    copy = taskpilot.root / "copy.db"
    with serving(taskpilot) as server:
        wait(lambda: len(runs_of(taskpilot, "ticks")) >= 2, server.said)
        written = json.loads(taskpilot("db", "backup", str(copy), "--json").out)
        assert written == {"path": str(copy), "bytes": copy.stat().st_size}
        # Under the running server: what came after the backup is forgotten, and the server goes on.
        last = max(run["id"] for run in runs_of(taskpilot, "ticks"))
        wait(lambda: max(run["id"] for run in runs_of(taskpilot, "ticks")) > last, server.said)
        done = json.loads(taskpilot("db", "restore", str(copy), "--json").out)
        assert done["in_use"] is True
        works_again(server, now())
        wait(lambda: server.row()["state"] == "running", server.row)
        assert answer(server, "/readyz")[0] == 200
        # What must not be done: SQLite would mix the two.
        shutil.copyfile(copy, taskpilot.state_dir / DB)
        wait(lambda: "another file was copied over" in server.said(), server.said)
        code, body = answer(server, "/health")
        assert (code, body["status"]) == (503, "fail")
        assert answer(server, "/readyz")[0] == 503
        assert answer(server, "/livez")[0] == 200
        server.stop(signal.SIGKILL)
    restored = json.loads(taskpilot("db", "restore", str(copy), "--json").out)
    assert (restored["in_use"], Path(restored["kept"]).exists()) == (False, True)
    with serving(taskpilot) as server:
        works_again(server, now())
    assert taskpilot.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert taskpilot("runs", "--json").code == 0


def answer(server: Server, path: str) -> tuple[int, Any]:
    """The status of a request to the server, and its JSON."""
    port = int(re.findall(r"http://127\.0\.0\.1:(\d+)", server.said())[-1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()
