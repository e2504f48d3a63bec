"""Deadline, cancellation and lease."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]


def test_a_job_may_clean_up_at_its_deadline(play: Start, tmp_path: Path) -> None:
    ending = play("clean_up", deadline=2.0, grace=60.0).ending()
    assert (ending["cause"], ending["exit_status"]) == ("deadline", 70)
    assert 2.0 <= ending["active_seconds"] < 30
    assert (tmp_path / "cleaned").exists()


def test_a_second_sigterm_does_not_disturb_the_clean_up_and_the_lease_is_kept_meanwhile(play: Start) -> None:
    ending = play("clean_up_slowly", deadline=2.0, lease=4.5).ending()
    assert (ending["cause"], ending["exit_status"]) == ("deadline", 9)
    # The last one came while the job was cleaning up.
    assert ending["renewals"][-1] > 2.0


@pytest.mark.parametrize("job", ["hang_in_c", "ignore_sigterm"])
def test_a_job_that_does_not_listen_is_killed_after_the_grace(play: Start, job: str) -> None:
    ending = play(job, deadline=2.0, grace=0.5).ending()
    assert (ending["cause"], ending["exit_status"], ending["signal"]) == ("deadline", None, 9)
    assert 2.5 <= ending["active_seconds"] < 30


def test_no_seconds_left_is_a_deadline_before_the_start(play: Start, tmp_path: Path) -> None:
    ending = play("look_around", deadline=0.0).ending()
    assert (ending["cause"], ending["exit_status"], ending["signal"], ending["active_seconds"]) == ("deadline", None, None, 0.0)
    assert not (tmp_path / "facts").exists()


def test_a_stopped_job_is_woken_up_to_clean_up(play: Start, tmp_path: Path) -> None:
    played = play("clean_up", deadline=4.0, grace=60.0)
    os.kill(played.pid_of("job"), signal.SIGSTOP)
    assert played.ending()["signal"] is None
    assert (tmp_path / "cleaned").exists()


def test_a_person_cancels(play: Start, tmp_path: Path) -> None:
    ending = play("clean_up", cancel="yes").ending()
    assert (ending["cause"], ending["exit_status"]) == ("cancelled", 70)
    assert (tmp_path / "cleaned").exists()


def test_broken_questions_and_a_broken_display_do_not_end_a_job(play: Start, tmp_path: Path) -> None:
    ending = play("short_orphans", cancel="broken").ending()
    assert (ending["cause"], ending["exit_status"]) == ("exited", 0)
    assert (tmp_path / "ticked").exists()


def test_a_forked_process_dies_of_sigterm_without_the_jobs_clean_up(play: Start, tmp_path: Path) -> None:
    play("forked_and_terminated", deadline=2.0).ending()
    assert (tmp_path / "cleanups").read_text() == "cleaned\n"


def test_a_lease_is_renewed_by_its_third(play: Start) -> None:
    ending = play("sleep", deadline=4.5, lease=3.0).ending()
    assert ending["cause"] == "deadline"
    assert len(ending["renewals"]) >= 3
    # Not more often. A busy machine may hold up the process between the grant and the first, and between a renewal and its time.
    assert all(at >= 1.0 * (number - 1) - 0.01 for number, at in enumerate(ending["renewals"], start=1))


def test_a_refused_lease_kills_at_once_without_grace(play: Start) -> None:
    ending = play("clean_up", renew="refused", lease=3.0).ending()
    assert (ending["cause"], ending["signal"]) == ("lease_lost", 9)
    assert len(ending["renewals"]) == 1


@pytest.mark.parametrize("renew", ["broken", "slow_and_broken"])
def test_a_lease_that_cannot_be_renewed_kills_the_tree_before_it_ends(play: Start, renew: str) -> None:
    played = play("daemon_and_sleep", renew=renew, lease=3.0)
    ending = played.ending()
    assert (ending["cause"], ending["signal"]) == ("lease_lost", 9)
    assert ending["seconds"] < 3.0
    assert not played.lives("descendant0")


def test_a_store_that_is_away_for_a_while_costs_nothing(play: Start) -> None:
    ending = play("sleep", renew="broken_for_a_while", lease=4.5, deadline=5.0).ending()
    assert ending["cause"] == "deadline"


def test_a_supervisor_that_stood_still_for_longer_than_its_lease_kills_its_job(play: Start) -> None:
    played = play("clean_up", lease=3.0)
    assert played.lives("job")
    played.send(signal.SIGSTOP)
    time.sleep(3.2)  # the kernel's clock cannot be handed in
    played.send(signal.SIGCONT)
    ending = played.ending()
    assert (ending["cause"], ending["signal"]) == ("lease_lost", 9)
