"""A supervisor that gets a signal to stop."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., Any]
ASKING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_is_the_cause_and_the_job_may_clean_up(play: Start, tmp_path: Path, number: signal.Signals) -> None:
    played = play("clean_up", grace=60.0)
    played.pid_of("job")
    played.send(number)
    ending = played.ending()
    assert (ending["cause"], ending["exit_status"]) == (number.name.lower(), 70)
    assert ending["seconds"] < 30
    assert (tmp_path / "cleaned").exists()


def test_a_second_signal_kills_at_once(play: Start) -> None:
    played = play("note_sigterm", grace=600.0)
    played.pid_of("job")
    played.send(signal.SIGTERM)
    played.pid_of("asked")
    time.sleep(0.2)  # two within a tenth of a second are one wish
    played.send(signal.SIGINT)
    ending = played.ending()
    assert (ending["cause"], ending["signal"]) == ("sigterm", 9)


def test_one_signal_delivered_twice_is_one_wish(play: Start, tmp_path: Path) -> None:
    # Between the two this process may have to wait for a processor.
    played = play("clean_up", one_wish_within=60.0)
    played.pid_of("job")
    played.send(signal.SIGINT)
    played.send(signal.SIGINT)
    assert played.ending()["signal"] is None
    assert (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_before_the_start_starts_nothing_in_this_attempt_or_the_next(play: Start, tmp_path: Path, number: signal.Signals) -> None:
    ending = play("look_around", early=int(number)).ending()
    assert (ending["cause"], ending["exit_status"], ending["signal"]) == (number.name.lower(), None, None)
    assert not (tmp_path / "facts").exists()


def test_nohup_is_honoured(play: Start) -> None:
    played = play("sleep", nohup=True, deadline=2.0)
    played.pid_of("job")
    played.send(signal.SIGHUP)
    assert played.ending()["cause"] == "deadline"
