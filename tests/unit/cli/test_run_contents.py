"""What a run did, for people and as JSON: its steps, and the files that it wrote."""

import json
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from taskpilot.cli import errors, run_pages
from taskpilot.cli.options import GlobalOptions
from taskpilot.config import load
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.domain.times import to_micros
from taskpilot.domain.usage import Usage
from taskpilot.store.database import Store
from taskpilot.store.records import reason_columns
from taskpilot.store.tables import attempts
from taskpilot.telemetry.job_errors import keep_error, short_traceback
from taskpilot.views.runs import show_run
from tests import records
from tests.terminal import on_terminal

KEYS = [
    *("id", "kind", "agent", "name", "status", "started_at", "duration_seconds", "model", "input", "result", "error", "tokens"),
    *("cost_usd", "decision_id", "truncated"),
]
SECRET = "sk-0123456789abcdefghij"


def message(role: str, content: str, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": content, "tool_calls": list(calls), "tool_call_id": None}


def reply(content: str, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"content": content, "tool_calls": list(calls), "finish_reason": "stop", "refusal": None}


CALL = {"id": "1", "name": "open_ticket", "arguments": '{"title": "x"}'}
FIRST = [message("system", "You execute tasks."), message("user", "The task: x")]


@pytest.fixture
def run_id(store: Store) -> str:
    """A conversation of two LLM calls around a tool call."""
    run_id = records.add_run(store)
    # What a workflow was given is no work of an agent, and not shown.
    records.add_step(store, run_id, kind=StepKind.GIVEN, name="given", status=StepStatus.SUCCEEDED, result="d" * 16, position=4)
    ask = {"kind": StepKind.ASK, "name": "executor", "agent": "executor", "model": "gpt-4o-mini", "status": StepStatus.SUCCEEDED}
    records.add_step(store, run_id, **ask, input=FIRST, result=reply("", CALL), usage=Usage(1200, 0, 30), position=0)
    records.add_step(
        store, run_id, status=StepStatus.SUCCEEDED, agent="executor", input={"title": "x", "password": "hunter2hunter2"},
        result="\x1b[2JTICKET-7", decision_id="d" * 36, position=1,
    )  # fmt: skip
    later = [*FIRST, message("assistant", "", CALL), message("tool", "TICKET-7")]
    records.add_step(store, run_id, **ask, input=later, result=reply(f"Done with {SECRET}."), position=2)
    records.add_step(
        store, run_id, kind=StepKind.STEP, name="load", status=StepStatus.FAILED, input=None, error="no file", ended_at=None, position=3
    )
    return run_id


def test_steps_as_json_have_exactly_the_promised_keys(cli: Callable[..., Any], run_id: str) -> None:
    made = cli("runs", "steps", run_id[-8:], "--json").json
    assert [list(step) for step in made] == [KEYS] * 4
    ask, call, _again, failed = made
    assert (ask["kind"], ask["agent"], ask["model"], ask["input"]) == ("ask", "executor", "gpt-4o-mini", FIRST)
    assert ask["duration_seconds"] == 1.0
    assert call["name"] == "open_ticket"
    assert (failed["error"], failed["duration_seconds"], failed["truncated"]) == ("no file", None, False)
    assert cli("runs", "show", "last", "--steps", "--json").json["steps"] == made


def test_secrets_are_masked_and_controls_escaped(cli: Callable[..., Any], run_id: str) -> None:
    for arguments in (("runs", "steps", "last"), ("runs", "steps", "last", "--full", "--json"), ("runs", "show", "last", "--steps")):
        said = cli(*arguments)
        assert said.code == 0
        assert SECRET not in said.out
        assert "hunter2" not in said.out
        assert "\x1b" not in said.out


def test_a_conversation_is_read_from_above_and_nothing_is_repeated(cli: Callable[..., Any], run_id: str) -> None:
    said = cli("runs", "steps", "last").out
    assert said.count("user: The task: x") == 1
    assert "(2 messages as before)\n    calls open_ticket" in said
    order = ["1. ask executor", "system: You execute", "calls open_ticket(", "2. call open_ticket by executor", "arguments: ", "TICKET-7"]
    places = [said.index(word) for word in order]
    assert places == sorted(places)
    assert "error: no file" in said


def test_long_texts_are_cut_unless_all_is_asked_for(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store)
    records.add_step(store, run_id, input={"text": "x" * 5_000, "deep": [["y"]]}, position=0)
    records.add_step(store, run_id, input={"too_long": "z"}, position=1)
    records.add_step(store, run_id, input="short", position=2)
    cut, kept, short = cli("runs", "steps", run_id, "--json").json
    assert cut["input"]["text"] == "x" * 2_000 + "… (5,000 characters)"
    assert [step["truncated"] for step in (cut, kept, short)] == [True, True, False]
    assert f"taskpilot runs steps {run_id[-8:]} --full" in cli("runs", "steps", run_id).out
    whole = cli("runs", "steps", run_id, "--json", "--full").json[0]
    assert (whole["input"]["text"], whole["truncated"]) == ("x" * 5_000, False)


def test_a_value_that_is_nested_very_deeply_is_shown_as_text(cli: Callable[..., Any], store: Store) -> None:
    run_id, deep = records.add_run(store), []
    for _ in range(300):
        deep = [deep]
    records.add_step(store, run_id, input=deep)
    assert "[[[[" in json.dumps(cli("runs", "steps", run_id, "--json").json)


def test_a_run_without_steps_says_so(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store)
    said = cli("runs", "steps", run_id)
    assert (said.code, said.out) == (0, "")
    assert "the run has no steps" in said.err
    assert cli("runs", "steps", run_id, "--json").json == []


def test_steps_fit_a_terminal(root: Path, run_id: str) -> None:
    for columns in (80, 200):
        shown = on_terminal(root, "runs", "steps", "last", columns=columns, NO_COLOR="1").text
        assert max(map(len, shown.splitlines())) <= columns + 20


@pytest.fixture
def folder(root: Path, store: Store) -> Path:
    path = root / ".taskpilot" / "runs" / records.add_run(store) / "artifacts"
    path.mkdir(parents=True)
    (path / "report.md").write_text("# Night\x1b[2J\n")
    (path / "b.bin").write_bytes(b"\0\1\2")
    return path


def test_artifacts_are_listed_printed_and_saved(cli: Callable[..., Any], folder: Path, root: Path) -> None:
    listed = cli("runs", "artifacts", "last", "--json").json
    assert [(one["name"], one["bytes"]) for one in listed] == [("b.bin", 3), ("report.md", 12)]
    assert list(listed[0]) == ["name", "bytes", "sha256", "path"]
    assert listed[1]["path"] == str(folder / "report.md")
    assert cli("runs", "artifacts", "last", "report.md").out == "# Night\x1b[2J\n"
    assert cli("runs", "artifacts", "last", "--save", str(root / "saved" / "here")).code == 0
    assert (root / "saved" / "here" / "b.bin").read_bytes() == b"\0\1\2"
    again = cli("runs", "artifacts", "last", "report.md", "--save", str(root / "saved" / "here"))
    assert (again.code, "exists already" in again.err) == (2, True)
    assert "# Night\\x1b[2J" in on_terminal(root, "runs", "artifacts", "last", "report.md").text
    binary = on_terminal(root, "runs", "artifacts", "last", "b.bin")
    assert (binary.code, "--save DIR" in binary.text) == (2, True)


def test_no_link_is_followed_to_a_file_elsewhere(cli: Callable[..., Any], folder: Path, root: Path) -> None:
    (folder / "link").symlink_to(root / "taskpilot.toml")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    assert [one["name"] for one in cli("runs", "artifacts", "last", "--json").json] == ["b.bin", "report.md"]
    for name in ("link", "pipe", "folder", "../../../taskpilot.db", "..", "no"):
        said = cli("runs", "artifacts", "last", name)
        assert (said.code, "has no artifact" in said.err) == (2, True), name
    outside = root / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)
    assert cli("runs", "artifacts", "last", "report.md").code == 2
    assert cli("runs", "artifacts", "last").code == 74


def test_the_log_of_a_run_has_local_times_on_a_terminal(cli: Callable[..., Any], store: Store, root: Path) -> None:
    run_id = records.add_run(store)
    folder = root / ".taskpilot" / "runs" / run_id
    folder.mkdir(parents=True)
    at = (records.NOON + timedelta(seconds=1)).isoformat()
    (folder / "run.log").write_text(json.dumps({"@timestamp": at, "log.level": "info", "message": "began"}) + "\nhalf a line")
    assert cli("runs", "logs", "last").out == "2026-11-23 12:00:01Z info    began\nhalf a line\n"
    assert cli("runs", "logs", "last", "-f").out == cli("runs", "logs", "last").out
    assert cli("runs", "logs", "last", "--json").json[0] == {"time": at, "level": "info", "message": "began"}
    assert json.loads(cli("runs", "logs", "last", "--json", "-f").out.splitlines()[0])["message"] == "began"
    assert "21:00:01 JST" in on_terminal(root, "runs", "logs", "last", TZ="Asia/Tokyo").text


def test_the_log_of_a_killed_attempt_ends_with_how_it_was_lost(cli: Callable[..., Any], store: Store, root: Path) -> None:
    run_id = records.add_run(store, status=RunStatus.LOST, reason=Reason(ReasonCode.SIGNAL, {"signal": "SIGKILL"}))
    with store.write() as connection:
        connection.execute(update(attempts).values(**reason_columns(Reason(ReasonCode.SIGNAL, {"signal": "SIGKILL"}))))
    assert cli("runs", "logs", "last").out.endswith("error   attempt 1 of triage lost: the job's process was killed by SIGKILL\n")
    folder = root / ".taskpilot" / "runs" / run_id
    folder.mkdir(parents=True)
    began = {"@timestamp": "2026-11-23T12:00:00Z", "message": "attempt 1 started", "event.action": "run-started", "taskpilot.attempt": 1}
    again = began | {"@timestamp": "2026-11-23T12:00:09Z", "message": "attempt 2 started", "taskpilot.attempt": 2}
    (folder / "run.log").write_text(json.dumps(began) + "\n" + json.dumps(again) + "\n")
    messages = [entry["message"] for entry in cli("runs", "logs", "last", "--json").json]
    assert messages == ["attempt 1 started", "attempt 1 of triage lost: the job's process was killed by SIGKILL", "attempt 2 started"]
    told = began | {"message": "attempt 1 failed", "event.action": "run-ended", "taskpilot.run.attempt": 1}
    (folder / "run.log").write_text(json.dumps(began) + "\n" + json.dumps(told) + "\n")
    assert [entry["message"] for entry in cli("runs", "logs", "last", "--json").json] == ["attempt 1 started", "attempt 1 failed"]


def test_a_failure_shows_the_frames_of_the_users_files_and_its_attempts(cli: Callable[..., Any], store: Store, root: Path) -> None:
    run_id = records.add_run(
        store,
        status=RunStatus.FAILED,
        reason=records.raised("no inbox"),
        attempts=3,
        ended_at=to_micros(records.NOON + timedelta(minutes=5)),
    )
    folder = root / ".taskpilot" / "runs" / run_id
    folder.mkdir(parents=True)
    for attempt in (1, 3):
        try:
            json.loads(f"{{{attempt}")
        except ValueError as error:
            keep_error(folder, error, attempt=attempt, mask=lambda text: text.replace("double", "***"))
    shown = cli("runs", "show", run_id).out
    assert shown.count("test_run_contents.py") == 1
    assert "json/decoder.py" not in shown
    assert "JSONDecodeError: Expecting property name enclosed in *** quotes" in shown
    short, whole = (cli("runs", "logs", run_id, "--output", *more).out for more in ((), ("--full",)))
    assert (short.count("test_run_contents.py"), short.count("json/decoder.py")) == (2, 0)
    assert (whole.count("test_run_contents.py"), whole.count("json/decoder.py") >= 2) == (2, True)
    assert "took" not in shown
    assert cli("runs", "logs", run_id, "--full").code == 2
    run = show_run(Deployment(load(root=root, environ={})), run_id).run
    assert run_pages._took(run) == "after 3 attempts in 5m00s, 2.00s of it active"


def test_a_traceback_is_short_whatever_was_raised() -> None:
    class Unshowable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("never")

    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError("x" * 100_000)

    for error in (Unshowable(), ExceptionGroup("several", [ValueError("one"), Unshowable()]), KeyboardInterrupt()):
        assert type(error).__name__ in short_traceback(error)
    with pytest.raises(ValueError, match="x") as caught:
        deep(200)
    assert 1 <= short_traceback(caught.value).count("in deep") <= 8


def test_commands_work_as_pasted_from_another_folder(
    cli: Callable[..., Any], store: Store, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = records.add_run(store, status=RunStatus.WAITING, ended_at=None)
    records.add_decision(store, run_id)
    task = records.add_task(store, run_id, status=TaskStatus.REVIEW)
    monkeypatch.chdir(tmp_path)
    place = ("--root", str(root))
    shown = cli(*place, "runs", "show", "last").out
    commands = re.findall(r"taskpilot .*", shown)
    assert len(commands) == 5
    assert all(command.startswith(f"taskpilot --root {root} ") for command in commands)
    assert cli(*place, "runs", "show", "00000000").err.splitlines()[1] == f"  taskpilot --root {root} runs list"
    assert f"taskpilot --root {root} runs resume" in cli(*place, "tasks", "approve", task).out
    monkeypatch.chdir(root)
    assert "--root" not in cli("runs", "show", "last").out + cli("runs", "show", "00000000").err


def test_a_hint_shows_its_example_and_hides_what_is_secret(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_secrets", lambda _given: ("correct-horse-battery",))
    error = ConfigurationError("no key", hint="set OPENAI_API_KEY=sk-... or password=example, not correct-horse-battery")
    assert errors.exit_code_of(error, GlobalOptions(), []) == 78
    assert capsys.readouterr().err.splitlines()[1] == "  set OPENAI_API_KEY=sk-... or password=example, not ***"
