"""The real command in a process of its own: what it prints and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.night_jobs import Command, Done, make_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path / "root")


@pytest.fixture
def taskpilot(root: Path) -> Command:
    return Command(root)


def test_json_is_one_line_with_the_keys_of_the_contract(taskpilot: Command) -> None:
    done = taskpilot("run", "hello", "-p", "name=Ada", "-p", "times=2", "--json")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1
    assert list(done.json) == [
        "run_id", "job", "status", "reason", "result", "attempts", "duration_seconds", "tasks", "tokens", "cost_usd", "llm_calls",
        "tool_calls", "trace_id", "reason_code", "reason_facts",
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


def test_a_failure_names_the_command_that_shows_the_traceback(taskpilot: Command) -> None:
    done = taskpilot("run", "breaks")
    assert done.code == 1
    (command,) = [line for line in done.out.splitlines() if "--output" in line]
    said = taskpilot(*command.partition("taskpilot ")[2].split())
    assert "Traceback (most recent call last)" in said.out
    log = [json.loads(line) for line in (taskpilot.folder / ".taskpilot" / "logs" / "taskpilot.log").read_text().splitlines()]
    (raised,) = [line for line in log if "error.stack_trace" in line]
    assert (raised["event.action"], raised["error.type"]) == ("job-raised", "RuntimeError")
    assert not [line for line in log if line.get("log.logger") == "job.output"]


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
