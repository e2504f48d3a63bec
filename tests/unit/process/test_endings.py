"""However a job ends, the supervisor says how, and nothing of it lives on."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]


@pytest.mark.parametrize(("job", "status"), [("exit0", 0), ("exit3", 3), ("os_exit", 5)])
def test_an_exit_status_is_returned(play: Start, job: str, status: int) -> None:
    ending = play(job).ending()
    assert (ending["cause"], ending["exit_status"], ending["signal"]) == ("exited", status, None)


def test_a_status_that_would_be_cut_to_zero_is_no_success(play: Start) -> None:
    assert play("exit256").ending()["exit_status"] == 70


@pytest.mark.parametrize(("job", "text"), [("sys_exit", b"SystemExit: 0"), ("raise_error", b"RuntimeError: the job broke")])
def test_what_leaves_main_is_a_traceback_in_the_output_and_status_70(play: Start, job: str, text: bytes) -> None:
    played = play(job)
    assert played.ending()["exit_status"] == 70
    assert text in played.output


def test_a_segfault_is_signaled_and_leaves_the_python_stack_in_the_output(play: Start) -> None:
    played = play("segfault")
    ending = played.ending()
    assert (ending["cause"], ending["exit_status"], ending["signal"]) == ("signaled", None, 11)
    assert b"segfault" in played.output


def test_binary_output_and_lone_surrogates_do_no_harm(play: Start) -> None:
    played = play("print_binary")
    assert played.ending()["exit_status"] == 0
    assert bytes(range(256)) in played.output
    assert b"lone \\ud800 surrogate" in played.output
    assert b"to stderr" in played.output


def test_the_child_starts_in_a_clean_room(play: Start, tmp_path: Path) -> None:
    play("look_around").ending()
    facts = json.loads((tmp_path / "facts").read_text())
    # The fourth descriptor is the one that lists them.
    assert len(facts.pop("descriptors")) == 4
    assert facts == {
        "folder": str(tmp_path),
        "session": True,
        "stdin": "",
        "secret": None,
        "kept": "seen",
        "umask": 0o077,
        "blocked": [],
        "sigint": True,
        "sigchld": True,
        "sigpipe": True,
    }


def test_the_output_is_private_and_appended_to(play: Start, tmp_path: Path) -> None:
    (tmp_path / "output.log").write_text("attempt 1\n")
    (tmp_path / "output.log").chmod(0o644)
    played = play("raise_error")
    played.ending()
    assert played.output.startswith(b"attempt 1\nTraceback")
    assert (tmp_path / "output.log").stat().st_mode & 0o777 == 0o600


def test_an_output_that_is_a_link_is_refused_before_anything_starts(play: Start, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    (tmp_path / "output.log").symlink_to("elsewhere")
    _, err = play("fork_children").process.communicate(timeout=60)
    assert "OSError" in err
    assert (tmp_path / "elsewhere").read_text() == "untouched"
    assert not list(tmp_path.glob("descendant*"))


def test_an_output_that_is_a_pipe_does_not_hang(play: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "output.log")
    _, err = play("exit0").process.communicate(timeout=60)
    assert "OSError" in err


def test_many_runs_leave_no_descriptor_handler_or_child_behind(play: Start) -> None:
    ending = play("exit0", times=30).ending()
    assert (ending["leaked"], ending["handlers_restored"], ending["children_left"]) == (0, True, [])


def test_a_forked_process_that_comes_back_out_of_the_job_ends_silently(play: Start) -> None:
    played = play("come_back_twice")
    assert played.ending()["exit_status"] == 4
    assert played.output == b"printed once\n"
