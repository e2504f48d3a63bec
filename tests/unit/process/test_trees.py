"""The whole tree dies, preexisting live."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskpilot.process.linux import _children_by_scan, children

Start = Callable[..., Any]

STRANGERS = """
sleep 61 >/dev/null 2>&1 & echo $! > "$0"
(sleep 62 & echo $! > "$1"; sleep 1) >/dev/null 2>&1 &
setsid sleep 63 >/dev/null 2>&1 & echo $! > "$2"
shift 2
exec "$@"
"""
"""Hands a child, a grandchild that will be an orphan and a leader of its own session over to the command that follows."""


def test_what_a_job_leaves_behind_is_killed_when_it_exits(play: Start) -> None:
    played = play("fork_children")
    ending = played.ending()
    assert (ending["cause"], ending["exit_status"]) == ("exited", 0)
    assert ending["seconds"] < 20
    assert not any(played.lives(f"descendant{number}") for number in range(3))


@pytest.mark.parametrize("job", ["daemon", "daemon_and_sleep"])
def test_a_daemon_in_its_own_session_that_ignores_sigterm_is_killed(play: Start, job: str) -> None:
    played = play(job, cancel="yes", deadline=60.0)
    ending = played.ending()
    assert ending["cause"] == ("exited" if job == "daemon" else "cancelled")
    assert ending["children_left"] == []
    assert not played.lives("descendant0")


def test_children_of_another_command_survive(play: Start, tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("child", "orphan", "leader")]
    played = play("daemon_and_sleep", prefix=("bash", "-c", STRANGERS, *map(str, names)), deadline=3.0)
    ending = played.ending()
    pids = [int(name.read_text()) for name in names]
    try:
        assert ending["cause"] == "deadline"
        assert not played.lives("descendant0")
        # The orphan was adopted while the job ran, and does no harm.
        assert [played.lives(name.name) for name in names] == [True, True, True]
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_a_job_dies_with_a_supervisor_that_is_killed(play: Start) -> None:
    played = play("ignore_sigterm")
    assert played.lives("job")
    played.send(signal.SIGKILL)
    assert played.is_gone("job")


def test_orphans_that_end_early_are_not_kept_as_zombies(play: Start) -> None:
    played = play("short_orphans")
    assert played.ending()["exit_status"] == 0
    assert played.output == b"children 1\n"


def test_a_fork_bomb_is_killed(play: Start, tmp_path: Path) -> None:
    played = play("fork_bomb", deadline=2.0, grace=0.0)
    ending = played.ending()
    assert (ending["cause"], ending["children_left"]) == ("deadline", [])
    bombs = [path.name for path in tmp_path.glob("bomb*")]
    assert len(bombs) > 10
    assert not any(played.lives(bomb) for bomb in bombs)


def test_both_ways_to_list_children_agree() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        assert sleeper.pid in (children() or ())
        assert children() == _children_by_scan()
        sleeper.kill()


@pytest.mark.parametrize(("job", "status"), [("exit3", 3), ("fork_children", 0)])
def test_a_system_without_linux_calls_ends_the_childs_group(play: Start, job: str, status: int) -> None:
    played = play(job, plain=True)
    ending = played.ending()
    assert (ending["cause"], ending["exit_status"]) == ("exited", status)
    assert all(played.is_gone(path.name) for path in played.folder.glob("descendant*"))


def test_a_system_without_linux_calls_kills_at_the_deadline(play: Start) -> None:
    ending = play("ignore_sigterm", plain=True, deadline=2.0, grace=0.5).ending()
    assert (ending["cause"], ending["signal"]) == ("deadline", 9)
