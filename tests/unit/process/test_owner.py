"""Whether the holder of a lease is certainly gone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from taskpilot.domain.runs import Owner
from taskpilot.process import current_owner, is_gone, owner
from taskpilot.process.linux import stat_of


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def owner_of(process: subprocess.Popen[bytes]) -> Owner:
    stat = stat_of(process.pid)
    assert stat is not None
    return replace(current_owner(), pid=process.pid, process_start=stat.start)


def test_a_living_process_is_not_gone_and_neither_is_a_stopped_one(sleeper: subprocess.Popen[bytes]) -> None:
    assert not is_gone(current_owner())
    sleeper.send_signal(signal.SIGSTOP)
    assert not is_gone(owner_of(sleeper))


def test_a_dead_process_is_gone_before_and_after_it_is_reaped(sleeper: subprocess.Popen[bytes]) -> None:
    dead = owner_of(sleeper)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert is_gone(dead)
    sleeper.wait()
    assert is_gone(dead)


def test_a_pid_that_was_given_out_again_is_another_process() -> None:
    myself = current_owner()
    assert is_gone(replace(myself, process_start=myself.process_start + 1))


def test_an_earlier_boot_of_this_machine_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "_host", lambda: "db7")
    assert is_gone(Owner(host="db7", boot_id="another", pid=1, process_start=1))


@pytest.mark.parametrize("host", ["localhost", "db7/pid:[4026532281]"])
def test_another_boot_of_a_host_with_a_common_name_is_not_certain(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(owner, "_host", lambda: host)
    assert not is_gone(Owner(host=host, boot_id="another", pid=1, process_start=1))


def test_another_machine_is_never_certain(sleeper: subprocess.Popen[bytes]) -> None:
    elsewhere = replace(owner_of(sleeper), host="another")
    sleeper.kill()
    sleeper.wait()
    assert not is_gone(elsewhere)
    assert not is_gone(replace(elsewhere, boot_id="another"))


def test_a_pid_that_names_no_process_is_not_certain() -> None:
    assert not is_gone(replace(current_owner(), pid=0))
    assert not is_gone(replace(current_owner(), pid=-1))
