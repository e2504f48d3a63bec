"""How commands end: a sentence on stderr, what helps below it, and the exit code of the table."""

import errno
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from taskpilot.cli import errors
from taskpilot.cli.options import GlobalOptions
from taskpilot.domain.errors import ConfigurationError, StoreBusy, StoreError, UsageError
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.ids import new_id


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("unknown job"), 2),
        (StoreError("full"), 74),
        (StoreBusy("locked"), 75),
        (ConfigurationError("bad"), 78),
        (click.UsageError("no such option"), 2),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
        (ValueError("oops"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 74),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), 74),
        (OSError(errno.ENOENT, "No such file", "/x/y"), 1),
        (SystemExit(7), 7),
    ],
)
def test_each_error_has_its_exit_code_and_one_sentence(
    error: BaseException, code: int, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.exit_code_of(error, GlobalOptions(), []) == code
    said = capsys.readouterr()
    assert said.out == ""
    if not isinstance(error, SystemExit):
        sentence, *hint = said.err.splitlines()
        assert sentence.startswith("taskpilot: ")
        assert len(hint) <= 1
        assert all(line.startswith("  ") for line in hint)
        assert "Traceback" not in said.err


def raised(error: Exception) -> Exception:
    """The error with a traceback that leads here."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_a_message_of_many_lines_with_escapes_is_one_harmless_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    errors.exit_code_of(UsageError("first\nsecond \x1b[31m"), GlobalOptions(), [])
    assert capsys.readouterr().err == "taskpilot: first second \\x1b[31m\n"


def test_a_defect_leaves_its_traceback_in_the_log(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.exit_code_of(raised(ZeroDivisionError("a \x1b[31m defect")), GlobalOptions(), []) == 1
    said = capsys.readouterr().err
    log = root / ".taskpilot" / "logs" / "taskpilot.log"
    assert str(log) in said
    assert "ZeroDivisionError: a \\x1b[31m defect" in said
    line = json.loads(log.read_text())
    assert "test_errors.py" in line["error.stack_trace"]
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.parent.stat().st_mode & 0o777 == 0o700


def test_with_debug_the_traceback_is_printed(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TASKPILOT_LOG_LEVEL", "debug")
    errors.exit_code_of(raised(ZeroDivisionError("a defect")), GlobalOptions(), [])
    assert "Traceback" in capsys.readouterr().err


def test_eacces_is_74_only_for_what_is_in_the_state_dir(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside = OSError(errno.EACCES, "Permission denied", str(root / ".taskpilot" / "runs"))
    assert errors.exit_code_of(inside, GlobalOptions(), []) == 74
    assert errors.exit_code_of(OSError(errno.EACCES, "Permission denied", "/etc/shadow"), GlobalOptions(), []) == 1


def test_the_job_is_named_in_front_of_the_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = GlobalOptions()
    given.subject = "triage"
    errors.exit_code_of(StoreError("the disk is full"), given, [])
    assert capsys.readouterr().err == "taskpilot: triage: the disk is full\n"


class TestAnErrorThatKnowsWhatHelps:
    ERROR = StoreError("the store is damaged", hint="taskpilot db restore a\x1b[31m")

    def test_its_hint_is_a_line_of_its_own(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        errors.exit_code_of(self.ERROR, GlobalOptions(), [])
        assert capsys.readouterr().err == "taskpilot: the store is damaged\n  taskpilot db restore a\\x1b[31m\n"

    def test_under_quiet_all_is_one_line(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        errors.exit_code_of(self.ERROR, GlobalOptions(), ["run", "triage", "--quiet"])
        assert capsys.readouterr().err == "taskpilot: the store is damaged; taskpilot db restore a\\x1b[31m\n"

    def test_several_problems_are_told_one_a_line_each_with_its_own_hint(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        both = ConfigurationError(problems=[ConfigurationError("one is wrong", hint="set ONE=1"), ConfigurationError("two is wrong")])
        assert errors.exit_code_of(both, GlobalOptions(), []) == 78
        assert capsys.readouterr().err == "taskpilot: one is wrong\n  set ONE=1\ntaskpilot: two is wrong\n"
        assert str(both) == "one is wrong; two is wrong"
        assert both.one_line == "one is wrong; set ONE=1; two is wrong"

    def test_under_quiet_several_problems_are_one_line(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        both = ConfigurationError(problems=[ConfigurationError("one is wrong", hint="set ONE=1"), ConfigurationError("two is wrong")])
        errors.exit_code_of(both, GlobalOptions(), ["run", "triage", "--quiet"])
        assert capsys.readouterr().err == "taskpilot: one is wrong; set ONE=1; two is wrong\n"


def test_a_usage_error_under_quiet_is_one_line_that_names_the_job(cli: Callable[..., Any]) -> None:
    said = cli("run", "triage", "--quiet", "--no-such-option")
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert "triage" in said.err
    assert "--no-such-option" in said.err


@pytest.mark.parametrize(
    ("typed", "lists"),
    [
        (["run"], "jobs"),
        (["jobs", "show"], "jobs"),
        (["runs", "cancel"], "runs"),
        (["tasks", "approve"], "tasks"),
        (["decisions", "show"], "decisions"),
    ],
)
def test_what_is_missing_is_answered_by_the_command_that_lists_it(typed: list[str], lists: str, cli: Callable[..., Any]) -> None:
    assert cli(*typed).err.splitlines()[1] == f"  taskpilot {lists}"


@pytest.mark.parametrize("noun", ["runs", "tasks", "decisions"])
@pytest.mark.parametrize("bad", ["../../etc/passwd", "x", "0"])
def test_an_id_that_is_none_is_a_usage_error_that_names_the_list(noun: str, bad: str, cli: Callable[..., Any]) -> None:
    said = cli(noun, "show", bad)
    assert said.code == 2
    assert f"taskpilot {noun} list" in said.err


@pytest.mark.parametrize(
    "command", [["runs", "show"], ["runs", "logs"], ["runs", "cancel"], ["traces", "show"], ["tasks", "show"], ["decisions", "show"]]
)
def test_an_id_that_nothing_has_is_a_usage_error(command: list[str], cli: Callable[..., Any]) -> None:
    said = cli(*command, new_id())
    assert said.code == 2
    assert "there is no" in said.err


def test_no_root_without_a_terminal_is_78(tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    said = cli("runs", "list")
    assert said.code == 78
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 78)])
def test_no_root_on_a_terminal_asks(answer: str, code: int, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    program = "import sys; from taskpilot.cli.program import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "runs", "list"], cwd=empty, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.write(ours, f"{answer}\n".encode())
    process.communicate(timeout=60)
    assert process.returncode == code
    assert (empty / "taskpilot.toml").exists() is (code == 0)
    os.close(ours)
    os.close(theirs)


def test_a_reader_that_goes_away_early_is_no_error(root: Path) -> None:
    program = "import sys; from taskpilot.cli.program import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", program, "exit-codes"], cwd=root, stdout=writing, stderr=subprocess.PIPE, env=environment, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_output_that_cannot_be_written_is_no_success(root: Path) -> None:
    program = "import sys; from taskpilot.cli.program import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program, "exit-codes"], cwd=root, stdout=full, stderr=subprocess.PIPE, env=environment, timeout=60
        )
    assert done.returncode == 1
    assert b"could not be written" in done.stderr


def test_a_terminal_that_knows_no_unicode_gets_escapes(root: Path) -> None:
    (root / "jobs" / "triage.py").write_text((root / "jobs" / "triage.py").read_text().replace("night's", "n\u00e4cht's \u65e5"))
    program = "import sys; from taskpilot.cli.program import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", program, "jobs", "show", "triage"], cwd=root, capture_output=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert rb"n\xe4cht's \u65e5" in done.stdout


def test_exit_codes_are_those_of_the_domain(cli: Callable[..., Any]) -> None:
    assert [row["code"] for row in cli("exit-codes", "--json").json] == [int(code) for code in ExitCode]
    table = cli("exit-codes").out.splitlines()
    assert len(table) == 1 + len(ExitCode)
    assert table[-1].startswith("143   SIGTERM or SIGHUP")
