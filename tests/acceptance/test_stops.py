"""Signals, a cancel and the deadline: how each is recorded, what the command exits with, and what may go on."""

import time
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM, Signals

import pytest

from tests.acceptance.kills.books import check_run, check_totals
from tests.acceptance.kills.gated import FIRE, ONE_CHARGE, ONE_STAMP, Gated, ended
from tests.acceptance.kills.processes import children, eventually, send
from tests.command import TaskPilot


@pytest.mark.parametrize(
    ("number", "code", "standing", "attempt"),
    [
        (SIGINT, 130, ("cancelled", "sigint"), ("cancelled", "sigint")),
        (SIGTERM, 143, ("queued", "sigterm"), ("lost", "sigterm")),
        (SIGHUP, 143, ("queued", "sigterm"), ("lost", "sigterm")),
    ],
)
def test_a_signal_is_recorded_and_what_it_allows_goes_on(
    taskpilot: TaskPilot, number: Signals, code: int, standing: tuple[str, str], attempt: tuple[str, str]
) -> None:
    job = Gated(taskpilot, ONE_STAMP)
    with job.started("run", "gated", "--scheduled-for", FIRE) as command:
        job.wait_for("stamped")
        send(command.pid, number)
        assert ended(command)[0] == code
    assert job.standing() == standing
    assert job.attempts() == [attempt]
    assert [step["status"] for step in job.steps()] == ["unknown"]
    job.open("stamp")
    if number is SIGINT:
        assert job.resume().code == 2
        assert taskpilot("run", "gated", "--scheduled-for", FIRE).code == 11
    else:
        goes_on = job.resume() if number is SIGTERM else taskpilot("run", "gated", "--scheduled-for", FIRE)
        assert goes_on.code == 0
        assert job.attempts() == [attempt, ("succeeded", "")]
    check_run(taskpilot, job.run()["id"])
    check_totals(taskpilot)


def test_sigterm_with_no_attempt_left_leaves_a_lost_run_that_a_person_may_resume(taskpilot: TaskPilot) -> None:
    job = Gated(taskpilot, ONE_STAMP.replace("retry=Retry(attempts=3), ", ""))
    with job.started() as command:
        job.wait_for("stamped")
        send(command.pid, SIGTERM)
        assert ended(command)[0] == 143
    assert job.standing() == ("lost", "sigterm")
    job.open("stamp")
    assert job.resume().code == 0
    check_totals(taskpilot, reopened={"lost": 1})


def test_a_cancelled_run_ends_with_16_and_stays_ended(taskpilot: TaskPilot) -> None:
    job = Gated(taskpilot, ONE_STAMP)
    with job.started() as command:
        job.wait_for("stamped")
        assert taskpilot("runs", "cancel", job.run()["id"]).code == 0
        assert ended(command)[0] == 16
    assert job.standing() == ("cancelled", "cancelled")
    assert taskpilot("runs", "cancel", job.run()["id"]).code == 2
    assert job.resume().code == 2
    check_run(taskpilot, job.run()["id"])
    check_totals(taskpilot)


def test_a_waiting_run_is_cancelled_without_a_process(taskpilot: TaskPilot) -> None:
    job = Gated(taskpilot, ONE_CHARGE)
    with job.started() as command:
        job.wait_for("asked to charge")
        for pid in children(command.pid):
            send(pid, SIGKILL)
        assert ended(command)[0] == 13
    assert taskpilot("runs", "cancel", job.run()["id"]).code == 0
    assert job.standing() == ("cancelled", "cancelled")
    check_run(taskpilot, job.run()["id"])


def test_the_deadline_counts_what_a_killed_supervisor_had_recorded(taskpilot: TaskPilot) -> None:
    taskpilot.environment["TASKPILOT_LEASE_SECONDS"] = "4"
    job = Gated(taskpilot, ONE_STAMP.replace('deadline="30s"', 'deadline="4s"'))
    with job.started() as command:
        job.wait_for("stamped")
        assert eventually(lambda: job.run()["active_micros"] > 2_000_000)
        send(command.pid, SIGKILL)
        command.wait(30)
    assert job.resume().code == 124
    assert job.attempts() == [("lost", "lease"), ("timed_out", "deadline")]
    first, second = taskpilot.rows("SELECT active_micros AS micros FROM attempts ORDER BY number")
    assert first["micros"] > 2_000_000
    assert 4_000_000 <= first["micros"] + second["micros"] < 6_000_000
    check_run(taskpilot, job.run()["id"])


def test_the_deadline_counts_the_active_seconds_of_all_attempts(taskpilot: TaskPilot) -> None:
    job = Gated(taskpilot, ONE_STAMP.replace('deadline="30s"', 'deadline="4s"'))
    with job.started() as command:
        job.wait_for("stamped")
        time.sleep(2)
        for pid in children(command.pid):
            send(pid, SIGKILL)
        assert ended(command)[0] == 124
    assert job.standing() == ("timed_out", "deadline")
    assert job.attempts() == [("lost", "signal"), ("timed_out", "deadline")]
    rows = taskpilot.rows("SELECT active_micros FROM attempts ORDER BY number")
    first, second = (row["active_micros"] / 1_000_000 for row in rows)
    assert first >= 2
    assert 4 <= first + second < 6
    assert job.resume().code == 124
    check_run(taskpilot, job.run()["id"])
    check_totals(taskpilot, reopened={"timed_out": 1})


SWALLOWS = """
import time
from taskpilot import RunContext, job

@job(deadline="1s")
def deaf(ctx: RunContext) -> str:
    ctx.log.info("listening")
    try:
        time.sleep(30)
    except BaseException:
        pass
    return "all is well"
"""


def test_a_job_that_swallows_the_end_it_is_asked_for_did_not_succeed(taskpilot: TaskPilot) -> None:
    taskpilot.job(SWALLOWS, name="deaf")
    assert taskpilot("run", "deaf").code == 124
    run = taskpilot.run()
    assert (run["status"], run["result"]) == ("timed_out", None)
