"""The real command beside others: runs that wait, are skipped, cancelled, interrupted or watched."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.night_jobs import Command, Done, make_root, wait_for_running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path / "root")


@pytest.fixture
def taskpilot(root: Path) -> Command:
    made = Command(root)
    made.cold = True
    return made


def test_a_run_that_waits_goes_on_by_the_commands_that_it_prints(taskpilot: Command) -> None:
    done = taskpilot("run", "orders")
    assert done.code == 13
    run_id = taskpilot("runs", "--json").json[0]["run_id"]
    decision = taskpilot("decisions", "--status", "pending", "--json").json[0]["decision_id"]
    assert f"taskpilot decisions approve {decision}" in done.out
    assert f"taskpilot decisions approve {decision}\n" in taskpilot("runs", "show", run_id).out
    approved = taskpilot("decisions", "approve", decision, "--note", "asked", "--by", "Ada")
    assert approved.code == 0
    assert f"taskpilot runs resume {run_id}" in approved.out
    assert taskpilot("decisions", "approve", decision).code == 2
    shown = taskpilot("decisions", "show", decision, "--json").json
    assert (shown["settled_by"], shown["note"], shown["status"]) == ("Ada", "asked", "approved")
    resumed = taskpilot("runs", "resume", run_id, "--json")
    assert resumed.code == 0
    assert resumed.json["run_id"] == run_id
    assert resumed.json["attempts"] == 2
    assert taskpilot("runs", "resume", run_id, "--quiet").code == 2


def test_a_rejected_call_ends_the_run_denied(taskpilot: Command) -> None:
    assert taskpilot("run", "orders", "--quiet").code == 13
    decision = taskpilot("decisions", "--status", "pending", "--json").json[0]
    assert taskpilot("decisions", "reject", decision["decision_id"], "--note", "not now").code == 0
    resumed = taskpilot("runs", "resume", decision["run_id"], "--quiet")
    assert resumed.code == 14
    assert "orders" in resumed.err


def test_a_fire_that_is_claimed_is_11_and_an_active_run_is_10(taskpilot: Command) -> None:
    when = "2026-11-23T07:00+01:00"
    first = taskpilot("run", "minutely", "--scheduled-for", when)
    assert first.code == 0
    assert first.out.startswith("2026-11-23 06:00:00+00:00")
    assert taskpilot("run", "minutely", "--scheduled-for", when).code == 11
    assert taskpilot("run", "minutely", "--scheduled-for", when, "--quiet", "--skip-ok") == Done(0, "", "")
    skipped = taskpilot("run", "minutely", "--scheduled-for", when, "--json")
    assert skipped.json["run_id"] is None
    process = taskpilot.start("run", "sleeps")
    try:
        wait_for_running(taskpilot, "sleeps")
        assert taskpilot("run", "sleeps").code == 10
        assert taskpilot("run", "sleeps", "--quiet") == Done(10, "", "")
        assert taskpilot("run", "sleeps", "--skip-ok").code == 0
        run_id = taskpilot("runs", "--job", "sleeps", "--json").json[0]["run_id"]
        assert taskpilot("runs", "cancel", run_id).code == 0
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (16, b"")
        assert b"sleeps cancelled" in out
    finally:
        process.kill()
        process.communicate()
    assert taskpilot("runs", "cancel", run_id).code == 2


@pytest.mark.parametrize(("sent", "code", "status"), [(signal.SIGINT, 130, "cancelled"), (signal.SIGTERM, 143, "lost")])
def test_a_signal_is_recorded_and_told_by_the_exit_code(sent: signal.Signals, code: int, status: str, taskpilot: Command) -> None:
    assert taskpilot("runs").code == 0
    process = taskpilot.start("run", "sleeps", "--quiet")
    try:
        wait_for_running(taskpilot, "sleeps")
        process.send_signal(sent)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out) == (code, b"")
    assert len(err.splitlines()) == 1
    assert b"sleeps" in err
    assert taskpilot("runs", "--json").json[0]["status"] == status


def test_a_live_line_is_drawn_on_a_terminal_and_only_there(taskpilot: Command, root: Path) -> None:
    import pty

    assert taskpilot("runs").code == 0
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "taskpilot", "run", "sleeps"],
        cwd=root, env={**taskpilot.environment, "TERM": "xterm"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        wait_for_running(taskpilot, "sleeps")
        seen = b""
        until = time.monotonic() + 20
        while b"1/4" not in seen and time.monotonic() < until:
            seen += os.read(ours, 4096)
        assert b"sleeps running" in seen
        assert b"1/4" in seen
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
        os.close(ours)
    assert process.returncode == 130
    assert b"\x1b" not in out


def test_commands_that_come_first_at_the_same_time_share_one_new_store(taskpilot: Command) -> None:
    processes = []
    for _ in range(6):
        processes.append(taskpilot.start("run", "hello", "--json"))
        time.sleep(0.06)  # Not a wait for anything: spreads the starts over the making of the store.
    ended = [process.communicate(timeout=90) for process in processes]
    assert [err for _out, err in ended] == [b""] * 6
    assert {process.returncode for process in processes} <= {0, 10}
    assert 0 in {process.returncode for process in processes}


def test_a_run_is_followed_and_run_again_with_the_same_parameters_and_file(taskpilot: Command, root: Path) -> None:
    text = """
import time
from taskpilot import InputFile, RunContext, job


@job
def counts(ctx: RunContext, inbox: InputFile = "inbox.txt", word: str = "line") -> str:
    ctx.log.info("opened the inbox")
    print("printed a word", flush=True)
    ctx.artifact("copy.txt", open(inbox).read())
    return f"{len(open(inbox).readlines())} {word}"
"""
    (root / "jobs" / "counts.py").write_text(text)
    (root / "one.txt").write_text("a\nb\n")
    first = taskpilot("run", "counts", "-p", "inbox=one.txt", "-p", "word=rows", "--follow")
    assert first.code == 0, first.err
    assert first.out.startswith("2 rows")
    assert first.err.index("attempt 1 of counts started") < first.err.index("opened the inbox") < first.err.index("counts succeeded")
    assert "printed a word" in first.err
    (root / "one.txt").unlink()
    again = taskpilot("runs", "rerun", "counts:last", "--json")
    assert (again.code, again.json["result"]) == (0, "2 rows")
    ids = {run["run_id"] for run in taskpilot("runs", "--job", "counts", "--json").json}
    assert len(ids) == 2
    assert again.json["run_id"] in ids
    assert taskpilot("runs", "artifacts", "last", "copy.txt").out == "a\nb\n"
    assert taskpilot("run", "counts", "--follow", "--quiet").code == 2


def test_a_log_is_followed_until_its_run_has_ended(taskpilot: Command, root: Path) -> None:
    sleeper = subprocess.Popen(
        [sys.executable, "-m", "taskpilot", "run", "sleeps"],
        cwd=root,
        env=taskpilot.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for_running(taskpilot, "sleeps")
        follower = subprocess.Popen(
            [sys.executable, "-m", "taskpilot", "runs", "logs", "last", "-f"], cwd=root, env=taskpilot.environment, stdout=subprocess.PIPE
        )
        assert follower.stdout is not None
        assert b"attempt 1 of sleeps started" in follower.stdout.readline()
        assert follower.poll() is None
        assert taskpilot("runs", "cancel", "last").code == 0
        follower.communicate(timeout=60)
        assert follower.returncode == 0
    finally:
        sleeper.communicate(timeout=60)
