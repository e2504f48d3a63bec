"""The real command in a process of its own: what it prints and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[2]

JOBS = '''
import os, sys, time

from taskpilot import Budget, RunContext, cron, job, tool


@job
def hello(ctx: RunContext, name: str = "you", times: int = 1) -> str:
    """Greets."""
    return f"hello {name}" * times


@job
def nasty(ctx: RunContext) -> str:
    """Says what no terminal should be told."""
    print("\\x1b[2Jprinted")
    ctx.log.info("\\x1b]0;owned\\x07 logged [/foo]")
    return "\\x1b[31m[link=https://evil.example]x[/link]\\u202e\\ttab"


@job
def handles(ctx: RunContext) -> str:
    """Asks the workflow."""
    ctx.workflow("Order new batteries for the door sensor.")
    return "done"


@job
def careful(ctx: RunContext) -> str:
    """Checks itself."""
    ctx.require(False, "nothing was sent")
    return "unreached"


@job
def breaks(ctx: RunContext) -> str:
    """Raises."""
    raise RuntimeError("first line\\nsecond \\x1b[31mline")


@job
def sleeps(ctx: RunContext) -> str:
    """Takes its time."""
    ctx.progress(1, 4)
    time.sleep(30)
    return "slept"


@job(schedule=cron("* * * * *"))
def minutely(ctx: RunContext) -> str:
    """Is due each minute."""
    return str(ctx.scheduled_for)


@tool(idempotent=False)
def order(item: str) -> str:
    """Orders something."""
    return "ordered " + item


@job(tools=[order])
def orders(ctx: RunContext) -> str:
    """Makes a call that waits for a person."""
    return str(ctx.call("create_task", title="the sensitive one", priority="high"))
'''


@dataclass(frozen=True)
class Done:
    """What the command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """The program, started in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(HERE)}

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "taskpilot", *arguments],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def __call__(self, *arguments: str) -> Done:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=90)
        return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "jobs").mkdir(parents=True)
    (folder / "taskpilot.toml").write_text('jobs = "jobs"\n[otel]\nenabled = false\n')
    (folder / "jobs" / "all.py").write_text(JOBS)
    return folder


@pytest.fixture
def taskpilot(root: Path) -> Command:
    return Command(root)


def test_a_first_folder_runs_offline(tmp_path: Path) -> None:
    taskpilot = Command(tmp_path)
    made = taskpilot("init", "night shift")
    assert made.code == 0
    assert "cd 'night shift' && taskpilot run hello --model offline" in made.out
    inside = Command(tmp_path / "night shift")
    done = inside("run", "hello", "--model", "offline")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("2 wishes handled\n")
    assert "offline" in done.out
    assert "executed" in done.out
    tasks = inside("tasks", "--json").json
    assert {task["status"] for task in tasks} == {"executed"}
    assert taskpilot("init", "night shift").code == 2


def test_json_is_one_line_with_the_keys_of_the_contract(taskpilot: Command) -> None:
    done = taskpilot("run", "hello", "-p", "name=Ada", "-p", "times=2", "--json")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1
    assert list(done.json) == [
        "run_id", "job", "status", "reason", "result", "attempts", "duration_seconds", "tasks", "tokens", "cost_usd", "llm_calls",
        "tool_calls", "trace_id",
    ]  # fmt: skip
    assert done.json["result"] == "hello Adahello Ada"
    assert done.json["status"] == "succeeded"
    assert done.json["tokens"] == {"input": 0, "cached_input": 0, "output": 0}


def test_quiet_is_silent_for_success_and_one_line_for_a_failure(taskpilot: Command) -> None:
    assert taskpilot("run", "hello", "--quiet") == Done(0, "", "")
    done = taskpilot("run", "breaks", "--quiet")
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1
    assert "breaks" in done.err
    assert "RuntimeError: first line" in done.err
    assert "\x1b" not in done.err
    done = taskpilot("run", "careful", "--quiet")
    assert done.code == 15
    assert "careful" in done.err
    assert "nothing was sent" in done.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "nothing"], "nothing"),
        (["run", "hello", "-p", "colour=red"], "colour"),
        (["run", "hello", "-p", "times=many"], "times"),
        (["run", "hello", "-p", "times"], "times"),
        (["run", "hello", "--scheduled-for", "tomorrow"], "tomorrow"),
        (["run", "hello", "--params-file", "missing.json"], "missing.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_usage_error_is_2_and_names_what_is_wrong(arguments: list[str], word: str, taskpilot: Command) -> None:
    done = taskpilot(*arguments)
    assert (done.code, done.out) == (2, "")
    assert word in done.err
    quiet = taskpilot(*arguments, "--quiet")
    assert quiet.code == 2
    assert len(quiet.err.splitlines()) == 1


def test_a_job_in_a_broken_file_is_78_and_the_others_run(taskpilot: Command, root: Path) -> None:
    (root / "jobs" / "bad.py").write_text("from taskpilot import job\n\n@job\ndef bad(ctx):\n    return (\n")
    done = taskpilot("run", "bad", "--quiet")
    assert done.code == 78
    assert len(done.err.splitlines()) == 1
    assert "bad.py:5" in done.err
    assert taskpilot("run", "hello", "--quiet").code == 0


def test_what_a_job_says_reaches_no_terminal_as_a_command(taskpilot: Command) -> None:
    done = taskpilot("run", "nasty")
    assert done.code == 0
    assert "\\x1b[31m[link=https://evil.example]x[/link]\\u202e" in done.out
    run_id = taskpilot("runs", "--json").json[0]["run_id"]
    pages = [taskpilot("runs", "show", run_id), taskpilot("runs", "logs", run_id), taskpilot("runs", "logs", run_id, "--output")]
    assert "printed" in pages[2].out
    assert "logged [/foo]" in pages[1].out
    for page in (done, *pages):
        assert "\x1b" not in page.out + page.err
        assert "\u202e" not in page.out


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


def test_the_exit_code_survives_a_reader_that_goes_away(taskpilot: Command) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "taskpilot", "run", "careful"],
        cwd=taskpilot.folder, env=taskpilot.environment, stdout=writing, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (15, b"")


def test_no_root_under_cron_is_78_in_one_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = Command(empty)("run", "hello", "--quiet")
    assert (done.code, done.out) == (78, "")
    assert len(done.err.splitlines()) == 1
    assert "hello" in done.err


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/sys").exists(), reason="needs a folder that nobody can write to")
def test_a_state_dir_that_cannot_be_made_is_74(taskpilot: Command) -> None:
    done = taskpilot("--home", "/proc/taskpilot", "run", "hello", "--quiet")
    assert done.code == 74
    assert len(done.err.splitlines()) == 1
    assert "hello" in done.err


def test_the_options_before_the_command_say_where(taskpilot: Command, root: Path, tmp_path: Path) -> None:
    other = Command(tmp_path)
    done = other("--root", str(root), "--home", str(tmp_path / "state"), "run", "hello", "--json")
    assert done.code == 0
    assert (tmp_path / "state" / "taskpilot.db").exists()
    assert not (root / ".taskpilot").exists()


def test_input_comes_from_a_pipe_of_parameters(taskpilot: Command, root: Path) -> None:
    (root / "params.json").write_text('{"name": "Bob", "times": 2}')
    done = taskpilot("run", "hello", "--params-file", "params.json", "-p", "times=1", "--json")
    assert done.json["result"] == "hello Bob"


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


def wait_for_running(taskpilot: Command, job: str) -> None:
    """Until the record says that the job's process is at work."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        runs = taskpilot("runs", "--job", job, "--status", "running", "--json")
        if runs.code == 0 and runs.json:
            return
    raise AssertionError(f"{job} did not start")
