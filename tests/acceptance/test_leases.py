"""A dead, stopped or locked-out supervisor: who may go on with its run, and who may not."""

import sqlite3
import time
from contextlib import closing
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import pytest

from taskpilot.domain.times import boot_seconds
from tests.acceptance.kills.books import check_decided, check_run, check_totals, everything
from tests.acceptance.kills.gated import FIRE, ONE_CHARGE, ONE_STAMP, Gated, ended, result_of
from tests.acceptance.kills.processes import alive, children, eventually, send
from tests.command import TaskPilot

LEASE = 3.0
"""Seconds: long enough for a busy machine to kill a tree in its last third, short enough to wait for."""

SWALLOWING = """
    try:
        return ctx.call(stamp, order="7")
    except BaseException:
        return "as if nothing had happened"
"""


@pytest.fixture
def short_lease(taskpilot: TaskPilot) -> float:
    taskpilot.environment["TASKPILOT_LEASE_SECONDS"] = str(LEASE)
    return LEASE


def test_a_killed_supervisor_takes_its_job_along_and_the_same_fire_goes_on(taskpilot: TaskPilot) -> None:
    job = Gated(taskpilot, ONE_STAMP)
    with job.started("run", "gated", "--scheduled-for", FIRE) as command:
        job.wait_for("stamped")
        (child,) = children(command.pid)
        send(command.pid, SIGKILL)
        assert eventually(lambda: not alive(child), seconds=10)
        command.wait(30)
        assert job.standing() == ("running", "")
        job.open("stamp")
        said = taskpilot("run", "gated", "--scheduled-for", FIRE, "--json")
    assert (said.code, result_of(said)) == (0, "stamp 7")
    assert job.attempts() == [("lost", "lease"), ("succeeded", "")]
    assert [step["status"] for step in job.steps()] == ["unknown", "succeeded"]
    assert taskpilot("run", "gated", "--scheduled-for", FIRE).code == 11
    check_run(taskpilot, job.run()["id"])
    check_totals(taskpilot)


def test_of_two_that_would_go_on_with_a_dead_run_one_does(taskpilot: TaskPilot) -> None:
    job = Gated(taskpilot, ONE_STAMP)
    line = ("run", "gated", "--scheduled-for", FIRE)
    with job.started(*line) as command:
        job.wait_for("stamped")
        send(command.pid, SIGKILL)
        command.wait(30)
    with job.started(*line) as one, job.started(*line) as other:
        assert eventually(lambda: one.poll() is not None or other.poll() is not None)
        job.open("stamp")
        assert sorted([ended(one)[0], ended(other)[0]]) == [0, 11]
    assert len(job.effects("stamped")) == 2
    check_run(taskpilot, job.run()["id"])
    check_totals(taskpilot)


def test_a_dead_run_with_no_attempt_left_is_lost_and_only_a_person_goes_on_with_it(taskpilot: TaskPilot) -> None:
    job = Gated(taskpilot, ONE_STAMP.replace("retry=Retry(attempts=3), ", ""))
    with job.started("run", "gated", "--scheduled-for", FIRE) as command:
        job.wait_for("stamped")
        send(command.pid, SIGKILL)
        command.wait(30)
    job.open("stamp")
    assert taskpilot("run", "gated", "--scheduled-for", FIRE).code == 11
    assert job.standing() == ("lost", "lease")
    assert len(job.effects("stamped")) == 1
    assert job.resume().code == 0
    assert job.attempts() == [("lost", "lease"), ("succeeded", "")]
    check_run(taskpilot, job.run()["id"])
    check_totals(taskpilot, reopened={"lost": 1})


def test_a_run_without_a_fire_closes_the_dead_one_and_starts_a_new_one(taskpilot: TaskPilot) -> None:
    job = Gated(taskpilot, ONE_STAMP)
    with job.started() as command:
        job.wait_for("stamped")
        send(command.pid, SIGKILL)
        command.wait(30)
    job.open("stamp")
    assert taskpilot("run", "gated").code == 0
    runs = taskpilot.rows("SELECT id, status, reason_code FROM runs ORDER BY id")
    assert [(run["status"], run["reason_code"]) for run in runs] == [("lost", "lease"), ("succeeded", "")]
    assert taskpilot("runs", "resume", runs[0]["id"]).code == 0
    assert taskpilot.rows("SELECT status FROM runs ORDER BY id")[0]["status"] == "succeeded"
    for run in runs:
        check_run(taskpilot, run["id"])
    check_decided(taskpilot)


def test_a_living_run_is_neither_taken_over_nor_run_beside(taskpilot: TaskPilot) -> None:
    job = Gated(taskpilot, ONE_STAMP)
    with job.started("run", "gated", "--scheduled-for", FIRE) as command:
        job.wait_for("stamped")
        assert taskpilot("run", "gated").code == 10
        assert taskpilot("run", "gated", "--scheduled-for", FIRE).code == 11
        assert job.resume().code == 2
        job.open("stamp")
        assert ended(command)[0] == 0
    assert len(job.effects("stamped")) == 1


def test_a_supervisor_that_cannot_renew_its_lease_kills_its_tree_before_the_lease_ends(taskpilot: TaskPilot) -> None:
    # Two of these seconds are kept for killing the tree, which may have to wait for a processor.
    taskpilot.environment["TASKPILOT_LEASE_SECONDS"] = "12"
    job = Gated(taskpilot, ONE_CHARGE)
    with job.started("run", "gated", "--scheduled-for", FIRE) as command:
        job.wait_for("asked to charge")
        (child,) = children(command.pid)
        with _locked(taskpilot):
            lease_ends = job.run()["lease_expires_at"] / 1_000_000
            assert eventually(lambda: not alive(child), seconds=lease_ends - boot_seconds())
            code, err = ended(command)
        assert code == 75
        assert "locked" in err
    assert job.standing() == ("running", "")
    job.open("before", "after")
    said = taskpilot("run", "gated", "--scheduled-for", FIRE)
    assert said.code == 13
    assert job.effects("charged") == []
    assert job.attempts() == [("lost", "lease"), ("waiting", "uncertain_step")]


@pytest.mark.parametrize("made", ['return ctx.call(stamp, order="7")', SWALLOWING])
def test_a_stopped_job_that_wakes_after_its_lease_makes_no_effect(taskpilot: TaskPilot, short_lease: float, made: str) -> None:
    """The job alone is woken first: it is its own check of the lease that holds it back, not its supervisor."""
    job = Gated(
        taskpilot,
        """
@job(retry=Retry(attempts=3), tools=[charge, stamp])
def gated(ctx: RunContext) -> str:
    write("at the gate")
    gate("begin")
    MADE
""".replace("MADE", made),
    )
    job.open("stamp")
    with job.started("run", "gated", "--scheduled-for", FIRE) as command:
        job.wait_for("at the gate")
        (child,) = children(command.pid)
        send(command.pid, SIGSTOP)
        send(child, SIGSTOP)
        lease_ends = job.run()["lease_expires_at"] / 1_000_000
        time.sleep(max(0.0, lease_ends - boot_seconds()) + 0.05)
        job.open("begin")
        send(child, SIGCONT)
        assert eventually(lambda: not alive(child))
        assert job.effects("stamped") == []
        assert job.steps() == []
        send(command.pid, SIGCONT)
        code, _ = ended(command)
    assert job.attempts()[0] == ("lost", "lease")
    assert code == (0 if job.standing()[0] == "succeeded" else 75)
    if job.standing()[0] != "succeeded":
        assert job.resume().code == 0
    assert len(job.effects("stamped")) == 1
    check_run(taskpilot, job.run()["id"])


def test_a_stopped_pair_whose_run_was_taken_over_changes_nothing_when_it_wakes(taskpilot: TaskPilot, short_lease: float) -> None:
    job = Gated(taskpilot, ONE_STAMP)
    with job.started("run", "gated", "--scheduled-for", FIRE) as command:
        job.wait_for("stamped")
        (child,) = children(command.pid)
        send(command.pid, SIGSTOP)
        send(child, SIGSTOP)
        time.sleep(max(0.0, job.run()["lease_expires_at"] / 1_000_000 - boot_seconds()) + 0.05)
        job.open("stamp")
        said = taskpilot("run", "gated", "--scheduled-for", FIRE)
        assert said.code == 0
        before = everything(taskpilot)
        send(child, SIGCONT)
        send(command.pid, SIGCONT)
        ended(command)
    assert everything(taskpilot) == before
    assert job.attempts() == [("lost", "lease"), ("succeeded", "")]
    check_run(taskpilot, job.run()["id"])
    check_totals(taskpilot)


def test_a_stopped_supervisor_leaves_a_run_alone_that_another_one_took_over_and_parked(taskpilot: TaskPilot, short_lease: float) -> None:
    job = Gated(taskpilot, ONE_STAMP)
    with job.started("run", "gated", "--scheduled-for", FIRE) as first:
        job.wait_for("stamped")
        (child,) = children(first.pid)
        send(first.pid, SIGSTOP)
        send(child, SIGSTOP)
        time.sleep(max(0.0, job.run()["lease_expires_at"] / 1_000_000 - boot_seconds()) + 0.05)
        with job.started("run", "gated", "--scheduled-for", FIRE) as second:
            job.wait_for("stamped", 2)
            send(second.pid, SIGTERM)
            assert ended(second)[0] == 143
        before = everything(taskpilot)
        assert job.standing() == ("queued", "sigterm")
        send(child, SIGCONT)
        send(first.pid, SIGCONT)
        ended(first)
    assert everything(taskpilot) == before
    job.open("stamp")
    assert job.resume().code == 0
    check_totals(taskpilot)


def _locked(taskpilot: TaskPilot) -> closing[sqlite3.Connection]:
    """Another process's write lock on the store, for as long as it is held."""
    connection = sqlite3.connect(taskpilot.state_dir / "taskpilot.db", timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return closing(connection)
