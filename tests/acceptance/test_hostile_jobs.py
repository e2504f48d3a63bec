"""Jobs that hang, fork, crash, shout or end in odd ways: the right word in the record, and nothing of them left."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.hostile import Hostile
from tests.command import Said, TaskPilot
from tests.servers.openai_answers import error
from tests.servers.openai_server import OpenAIServer

MIB = 1 << 20
KEY = "sk-live-9f8e7d6c5b4a"


@pytest.fixture
def hostile(taskpilot: TaskPilot) -> Hostile:
    return Hostile(taskpilot)


def shown(taskpilot: TaskPilot, said: Said) -> dict[str, Any]:
    """The run as `runs show --json` has it, which agrees with the summary."""
    summary = said.json
    answer = taskpilot("runs", "show", summary["run_id"], "--json")
    assert answer.code == 0, answer.err
    run: dict[str, Any] = answer.json
    assert (run["status"], run["attempts"]) == (summary["status"], summary["attempts"])
    return run


def check(hostile: Hostile, said: Said, *, code: int, status: str, detail: str = "") -> dict[str, Any]:
    """Exit code, summary, record and attempt say one thing; no process is left; stderr is silent."""
    assert (said.code, said.err) == (code, "")
    run = shown(hostile.taskpilot, said)
    assert run["status"] == status
    assert detail in run["reason"]
    assert detail in said.json["reason"]
    assert run["ended_at"] is not None
    assert [attempt["status"] for attempt in run["attempt_list"]] == [status]
    assert all(attempt["ended_at"] for attempt in run["attempt_list"])
    assert hostile.alive() == []
    return run


@pytest.mark.slow
def test_a_deadline_ends_the_deaf_with_their_whole_trees(hostile: Hostile) -> None:
    names = ("hangs_in_c", "ignores_sigterm")
    started = {name: hostile.taskpilot.start("run", name, "--json") for name in names}
    told = {name: (process, *process.communicate(timeout=120)) for name, process in started.items()}
    for name, (process, out, err) in told.items():
        run = check(hostile, Said(process.returncode, out.decode(), err.decode(), 0.0), code=124, status="timed_out", detail="deadline")
        assert run["job"] == name
        assert run["reason_code"] == "deadline"
        # The deadline of 4 s and the grace of 10 s.
        assert 13 <= run["duration_seconds"] <= 40
    assert hostile.noted() == 6


def test_a_job_that_is_done_takes_its_tree_along(hostile: Hostile) -> None:
    run = check(hostile, hostile.taskpilot("run", "leaves_a_tree", "--json"), code=0, status="succeeded")
    assert run["result"] == "done"
    assert hostile.noted() == 3


@pytest.mark.parametrize("job", ["forks", "forks_and_fails"])
def test_a_fork_that_comes_back_from_the_job_does_not_end_the_run(hostile: Hostile, job: str) -> None:
    run = check(hostile, hostile.taskpilot("run", job, "--json"), code=0, status="succeeded")
    assert run["result"] == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "status", "detail"),
    [
        (["says_goodbye", "-p", "code=0"], 0, "succeeded", ""),
        (["says_goodbye", "-p", "code="], 0, "succeeded", ""),
        (["says_goodbye", "-p", "code=3"], 1, "failed", "sys.exit(3)"),
        (["says_goodbye", "-p", "code=text"], 1, "failed", "sys.exit('text')"),
        (["says_goodbye_in_a_thread"], 1, "failed", "sys.exit(3)"),
        (["ends_at_once", "-p", "status=0"], 1, "failed", "exited with status 0 before its end was recorded"),
        (["ends_at_once", "-p", "status=3"], 1, "failed", "exited with status 3 before its end was recorded"),
        (["segfaults"], 1, "lost", "killed by SIGSEGV"),
        (["kills_itself"], 1, "lost", "killed by SIGKILL"),
        (["stops_its_supervisor"], 143, "lost", "ended by SIGTERM"),
        (["leaks_threads"], 0, "succeeded", ""),
        (["closes_its_streams"], 0, "succeeded", ""),
        (["breaks_its_streams"], 1, "failed", "closed file"),
        (["loses_its_folder"], 0, "succeeded", ""),
    ],
)
def test_a_job_that_leaves_in_its_own_way_ends_as_the_table_says(
    hostile: Hostile, arguments: list[str], code: int, status: str, detail: str
) -> None:
    check(hostile, hostile.taskpilot("run", *arguments, "--json"), code=code, status=status, detail=detail)


@pytest.mark.parametrize(
    ("what", "detail"),
    [
        ("base", "Odd: odd"),
        ("interrupt", "KeyboardInterrupt"),
        ("generator", "GeneratorExit"),
        ("memory", "MemoryError"),
        ("unshowable", "Unshowable: (an error that cannot be shown)"),
        ("escapes", r"ValueError: \x1b[31mred next\u202e\ud800 [link=x] [/foo]"),
        ("huge", "ValueError: yyyy"),
        ("group", "ExceptionGroup: several (2 sub-exceptions)"),
    ],
)
def test_whatever_a_job_raises_is_one_sentence_in_the_record(hostile: Hostile, what: str, detail: str) -> None:
    run = check(hostile, hostile.taskpilot("run", "raises", "-p", f"what={what}", "--json"), code=1, status="failed", detail=detail)
    assert run["reason_code"] == "exception"
    assert len(run["reason_facts"]["error"]) <= 1000
    assert run["reason"].isprintable()
    output = hostile.taskpilot("runs", "logs", run["run_id"], "--output", "--full").out
    assert "Traceback (most recent call last)" in output or "Exception Group Traceback" in output


@pytest.mark.parametrize("what", ["object", "function", "nan", "circle", "bytes"])
def test_a_result_that_is_no_json_fails_the_run_and_says_so(hostile: Hostile, what: str) -> None:
    said = hostile.taskpilot("run", "returns", "-p", f"what={what}", "--json")
    check(hostile, said, code=1, status="failed", detail="cannot be recorded as JSON")


@pytest.mark.parametrize(("what", "result"), [("generator", [1, 2]), ("none", None), ("nested", {"a": [1, {"b": None}]})])
def test_a_result_that_is_json_is_kept_as_it_is(hostile: Hostile, what: str, result: object) -> None:
    run = check(hostile, hostile.taskpilot("run", "returns", "-p", f"what={what}", "--json"), code=0, status="succeeded")
    assert run["result"] == result


def printed(taskpilot: TaskPilot, run: dict[str, Any]) -> list[dict[str, Any]]:
    """What the shared log has of a run's output."""
    lines = [json.loads(line) for line in (taskpilot.state_dir / "logs" / "taskpilot.log").read_text().splitlines()]
    told = [line for line in lines if line["log.logger"] == "job.output"]
    assert {(line["taskpilot.run.id"], line["trace.id"]) for line in told} <= {(run["run_id"], run["trace_id"])}
    return told


def test_what_a_dying_process_says_reaches_the_shared_log_with_its_run(hostile: Hostile) -> None:
    run = check(hostile, hostile.taskpilot("run", "segfaults", "--json"), code=1, status="lost")
    assert any("Segmentation fault" in line["message"] for line in printed(hostile.taskpilot, run))


def test_binary_output_is_kept_in_its_file_and_shown_harmless(hostile: Hostile) -> None:
    taskpilot = hostile.taskpilot
    run = check(hostile, taskpilot("run", "prints_binary", "--json"), code=0, status="succeeded")
    kept = (taskpilot.state_dir / "runs" / run["run_id"] / "output.log").read_bytes()
    assert bytes(range(256)) * 64 in kept
    for arguments in (["run", "prints_binary"], ["runs", "show", run["run_id"]], ["runs", "logs", run["run_id"], "--output"], ["runs"]):
        said = taskpilot(*arguments)
        assert (said.code, said.err) == (0, "")
        assert [character for character in said.out if not (character.isprintable() or character == "\n")] == []


@pytest.mark.slow
def test_50_mb_of_output_do_not_hold_a_run_up(hostile: Hostile) -> None:
    taskpilot = hostile.taskpilot
    run = check(hostile, taskpilot("run", "prints_much", "--json"), code=0, status="succeeded")
    assert (taskpilot.state_dir / "runs" / run["run_id"] / "output.log").stat().st_size == 50 * MIB
    said = taskpilot("runs", "logs", run["run_id"], "--output")
    assert said.code == 0
    # Nobody reads fifty million characters: the end of them, or all of them, but within a moment.
    assert said.seconds < 20
    lines = printed(taskpilot, run)
    assert [line["event.action"] for line in lines] == ["job-output", "output-left-out"]
    assert max(len(line["message"]) for line in lines) <= 8192


def test_a_run_that_shouts_prints_nothing_of_it_on_the_command_itself(hostile: Hostile) -> None:
    said = hostile.taskpilot("run", "prints_much", "--quiet")
    assert (said.code, said.out, said.err) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code"), [(["segfaults"], 1), (["ends_at_once", "-p", "status=3"], 1), (["raises", "-p", "what=escapes"], 1)]
)
def test_quiet_says_one_line_with_job_and_cause(hostile: Hostile, arguments: list[str], code: int) -> None:
    said = hostile.taskpilot("run", *arguments, "--quiet")
    assert (said.code, said.out) == (code, "")
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"taskpilot: {arguments[0]}: ")
    assert said.err[:-1].isprintable()


def test_a_job_process_is_alone_and_has_no_secret_that_only_serve_needs(hostile: Hostile) -> None:
    taskpilot = hostile.taskpilot
    secrets = {"TASKPILOT_API_TOKEN": "token-0b1c2d3e4f", "OPENAI_API_KEY": KEY}
    said = taskpilot(
        "--root", str(taskpilot.root), "run", "shows_its_surroundings", "--json", environment=secrets, cwd=Path("/"), stdin=b"typed"
    )
    result = check(hostile, said, code=0, status="succeeded")["result"]
    assert "TASKPILOT_API_TOKEN" not in result["names"]
    assert "OPENAI_API_KEY" in result["names"]
    assert {key: result[key] for key in ("cwd", "session", "stdin", "umask")} == {
        "cwd": str(taskpilot.root),
        "session": True,
        "stdin": "",
        "umask": 0o077,
    }
    assert kept_with(taskpilot, "the key is ***") != []
    for value in secrets.values():
        assert kept_with(taskpilot, value) == []


def kept_with(taskpilot: TaskPilot, value: str) -> list[Path]:
    """The files of the state dir that hold a text."""
    return [path for path in taskpilot.state_dir.rglob("*") if path.is_file() and value.encode() in path.read_bytes()]


def test_a_key_in_an_errors_words_is_kept_nowhere(hostile: Hostile) -> None:
    said = hostile.taskpilot("run", "cites_the_key", "--json", environment={"OPENAI_API_KEY": KEY})
    check(hostile, said, code=1, status="failed", detail="ValueError: the key *** was refused")
    assert kept_with(hostile.taskpilot, KEY) == []
    assert kept_with(hostile.taskpilot, "*** was refused") != []


@pytest.mark.parametrize("status", [400, 401])
def test_a_key_that_the_server_says_back_is_kept_nowhere(hostile: Hostile, model_server: OpenAIServer, status: int) -> None:
    model_server.handler = lambda _body: error(status, f"Incorrect API key provided: {KEY}.")
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": model_server.url}
    said = hostile.taskpilot("run", "asks", "--json", environment=environment)
    check(hostile, said, code=1, status="failed", detail="ModelRefused")
    assert model_server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert kept_with(hostile.taskpilot, KEY) == []


def test_everything_in_the_state_dir_is_ours_alone_whatever_the_umask(hostile: Hostile, root: Path) -> None:
    (root / "inbox.txt").write_text("words")
    before = os.umask(0)
    try:
        said = hostile.taskpilot("run", "opens_its_files_to_all", "-p", "inbox=inbox.txt", "--model", "offline", "--json")
    finally:
        os.umask(before)
    run = check(hostile, said, code=0, status="succeeded")
    state_dir = hostile.taskpilot.state_dir
    # A link has no mode of its own.
    kept = [path for path in state_dir.rglob("*") if not path.is_symlink()]
    modes = {str(path.relative_to(state_dir)): (path.is_dir(), stat.S_IMODE(path.lstat().st_mode)) for path in kept}
    mine = f"runs/{run['run_id']}"
    wanted = {"taskpilot.db", "traces.jsonl", "decision_logs.jsonl", "metrics.json", "logs/taskpilot.log"}
    wanted |= {f"{mine}/{name}" for name in ("run.log", "output.log", "artifacts/report.txt", "inputs/inbox.txt")}
    assert wanted <= modes.keys()
    assert {path: mode for path, (folder, mode) in modes.items() if mode != (0o700 if folder else 0o600)} == {}
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    # The job's own files are the job's own business.
    assert stat.S_IMODE((root / "beside").stat().st_mode) == 0o777
